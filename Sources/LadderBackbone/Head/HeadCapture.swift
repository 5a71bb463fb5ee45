import CLlama
import Foundation
import LadderCompute
import LadderCore

/// Reads the output head, and the names of what is tapped, off the graph that llama.cpp builds for two tokens, of which
/// the second is to be predicted from.
final class HeadCapture {
  private(set) var weight: UnsafeMutablePointer<ggml_tensor>?
  private(set) var inner: Float = 1
  private(set) var outer: Float = 1
  private(set) var capped = false
  private(set) var unknown: String?
  /// What the weight multiplies, and its rows.
  private(set) var final = ""
  private(set) var finalIsOfWeight = false
  private(set) var finalRows = 0
  let search: BlockOutputSearch
  private let vocabulary: Int64

  init(width: Int, vocabulary: Int) {
    search = BlockOutputSearch(width: width, tokens: 2)
    self.vocabulary = Int64(vocabulary)
  }

  func see(_ tensor: UnsafeMutablePointer<ggml_tensor>) {
    guard weight != nil else {
      search.see(tensor)
      if tensor.pointee.op == GGML_OP_MUL_MAT, tensor.pointee.ne.0 == vocabulary, let read = tensor.pointee.src.1,
        let matrix = tensor.pointee.src.0, matrix.pointee.op == GGML_OP_NONE,
        ggml_get_name(matrix).map({ strncmp($0, "blk.", 4) != 0 }) ?? false
      {
        weight = matrix
        let input = search.original(read)
        finalRows = Int(input.pointee.ne.1)
        final = ggml_get_name(input).map { String(cString: $0) } ?? ""
        // The names that ggml gives itself change with the graph.
        if final.hasPrefix("node_"), input.pointee.op == GGML_OP_MUL, let norm = input.pointee.src.1,
          norm.pointee.op == GGML_OP_NONE
        {
          final = ggml_get_name(norm).map { String(cString: $0) } ?? ""
          finalIsOfWeight = true
        }
      }
      return
    }
    switch tensor.pointee.op {
    case GGML_OP_SCALE:
      let (scale, bias) = withUnsafeBytes(of: tensor.pointee.op_params) {
        ($0.load(as: Float.self), $0.load(fromByteOffset: 4, as: Float.self))
      }
      outer *= scale
      if bias != 0 { unknown = "a logit offset" }
    case GGML_OP_UNARY where ggml_get_unary_op(tensor) == GGML_UNARY_OP_TANH && !capped:
      inner = outer
      outer = 1
      capped = true
    case GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_CONT, GGML_OP_NONE, GGML_OP_PERMUTE, GGML_OP_TRANSPOSE: break
    case GGML_OP_ADD: unknown = "a bias"
    default: unknown = "the operation \(String(cString: ggml_op_desc(tensor)))"
    }
  }
}

extension HeadCapture {
  /// Runs the model on two tokens.
  static func look(_ model: OpaquePointer, _ engine: Engine, path: String) throws -> HeadCapture {
    let capture = HeadCapture(
      width: Int(llama_model_n_embd(model)), vocabulary: Int(llama_vocab_n_tokens(llama_model_get_vocab(model))))
    var parameters = llama_context_default_params()
    parameters.n_ctx = 64
    parameters.n_batch = 8
    parameters.n_ubatch = 8
    parameters.n_outputs_max = 1
    parameters.cb_eval_user_data = Unmanaged.passUnretained(capture).toOpaque()
    parameters.cb_eval = { tensor, ask, data in
      guard let tensor, let data else { return false }
      if ask { Unmanaged<HeadCapture>.fromOpaque(data).takeUnretainedValue().see(tensor) }
      return false
    }
    Log.clearError()
    guard let context = llama_init_from_model(model, parameters) else {
      throw LadderError(.data, "llama.cpp cannot run \(path): \(Log.takeError())")
    }
    defer { llama_free(context) }
    llama_attach_threadpool(context, engine.threadpool, engine.threadpool)
    var tokens = [llama_token](repeating: max(0, llama_vocab_bos(llama_model_get_vocab(model))), count: 2)
    guard engine.inTurn({ llama_decode(context, llama_batch_get_one(&tokens, 2)) }) == 0 else {
      throw LadderError(.data, "llama.cpp cannot run \(path): \(Log.takeError())")
    }
    return capture
  }
}

extension Head {
  /// The head of a model, and the names of what is tapped.
  /// - Throws: `data` where the graph shows no such head, or no hidden states.
  static func capture(_ owner: ModelOwner, _ engine: Engine, blocks: Int, file: GGUFFile) throws
    -> (head: Head, names: GraphNames)
  {
    let capture = try HeadCapture.look(owner.model, engine, path: file.path)
    let refusal = "\(file.path): the graph of this architecture (\(file.architecture))"
    guard let weight = capture.weight, !capture.final.isEmpty, !capture.final.hasPrefix("node_") else {
      throw LadderError(.data, "\(refusal) has no output head that Ladder can read")
    }
    guard capture.finalRows == 1 else {
      throw LadderError(.data, "\(refusal) runs its head on every token, also on those that none is predicted from")
    }
    if let unknown = capture.unknown {
      throw LadderError(.data, "\(refusal) has \(unknown) behind its output head, which Ladder does not know")
    }
    guard let names = capture.search.names(blocks: blocks - 1) ?? (blocks == 1 ? ("l_out-", 0) : nil) else {
      throw LadderError(.data, "\(refusal) shows no hidden state between its blocks, which Ladder reads")
    }
    if engine.isCPU {
      owner.know(
        capture.search.weights.compactMap { tensor, block in
          guard Tensor(tensor).isInProcess else { return nil }
          return tensor.pointee.data.map { (block, UnsafeRawBufferPointer(start: $0, count: ggml_nbytes(tensor))) }
        })
    }
    let head = Head(
      weight: Tensor(weight), inner: capture.inner, outer: capture.outer, capped: capture.capped, owner: owner)
    return (
      head,
      GraphNames(
        blockPrefix: names.prefix, blockShift: names.shift, final: capture.final,
        finalIsOfWeight: capture.finalIsOfWeight, embedding: capture.search.embedding)
    )
  }
}

import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderData

/// Runs the frozen backbone and hands out what the side network reads: the tapped blocks' outputs and the final norm's
/// rows. The head's matmul is never run here.
package final class ForwardPass: TapSource {
  package let backbone: Backbone
  /// The tapped blocks, 1-based: the rungs r(1) < r(2) < … of the design, each in 0…L. 0 is the embedding. What block L
  /// hands on the engine computes at the rows that it puts out alone, so with it every row is put out: V logits are set
  /// aside for each row of a call, which then holds fewer.
  package let rungs: [Int]
  /// The most tokens of one sequence.
  package let maxTokens: Int
  private let context: OpaquePointer
  private let capture: TapCapture
  private var batch: llama_batch
  let unit: Int
  let outputsPerCall: Int
  /// Texts of one call where no final rows are handed out: the engine sets aside V logits for each all the same.
  package static let textsWithoutRows = 16
  /// The most sequences of any call.
  package static let mostTexts = 64
  /// The most sequences at once.
  package let maxSequences: Int
  private let sharedLength: Int
  private let adapter: EngineAdapter?
  let stopsAtLastTap: Bool
  /// Whether every row is put out, for the last block's tap.
  let putsOutAll: Bool
  private var memory: SequenceMemory
  private let owner: ModelOwner
  /// How many blocks it runs, from the first; `.max` is all.
  private let blocksRun: Int

  /// Tokens that a context has room for.
  private static func context(tokens: Int) -> Int { (tokens + 255) / 256 * 256 }

  /// Whether the engine turns positions by the model's factors for long contexts, where it has two sets (longrope): it
  /// chooses by the whole context, so that the same sample comes out otherwise beside a long one.
  static func turnsLong(_ file: GGUFFile, maxTokens: Int) -> Bool {
    guard file.tensors.contains(where: { $0.name.hasSuffix("rope_factors_long.weight") }),
      let first = file.own("rope.scaling.original_context_length") ?? file.own("context_length")
    else { return false }
    return context(tokens: max(512, maxTokens)) > first
  }

  /// - Parameters:
  ///   - maxTokens: the longest sample, and the KV cache's size.
  ///   - texts: the most sequences that are asked for at once.
  ///   - finalRows: the most final rows of one call; nil is what `Head.rowsPerCall` says. The engine sets aside V logits
  ///     for each.
  ///   - unit: tokens of one call of the engine; more only cost memory.
  ///   - sharedLength: samples of up to this many tokens share a call. A quantised model rounds its activations to 8
  ///     bits, which makes a last-bit difference in attention's sums one of a percent in the logits; a sample that has
  ///     a call to itself gives the same to the bit whatever it is trained beside.
  ///   - exactAttention: attention in F32 throughout, not in the engine's fused kernel on F16 keys and values, whose
  ///     sums depend on how many tokens a call holds: more memory and time, for stepwise results that agree with whole
  ///     ones.
  ///   - keepsWindow: keep what a sliding window has left behind: sequences can be cut and shared.
  ///   - adapter: low-rank additions that llama.cpp applies to the model.
  ///   - stopsAtLastTap: end each call there: no final rows are handed out.
  ///   - runsHead: run the model's own head too, at every loss row; final rows are not handed out then. To measure the
  ///     engine by.
  ///   - engineAlone: with llama.cpp's own kernels throughout, and weights as it loads them. To measure the engine by.
  package init(
    _ backbone: Backbone, rungs: [Int], maxTokens: Int, texts: Int = ForwardPass.mostTexts, finalRows: Int? = nil,
    unit: Int = 512, sharedLength: Int = 96, exactAttention: Bool = false, keepsWindow: Bool = false,
    adapter: EngineAdapter? = nil, stopsAtLastTap: Bool = false, runsHead: Bool = false, engineAlone: Bool = false
  ) throws {
    self.stopsAtLastTap = stopsAtLastTap
    putsOutAll = rungs.last == backbone.blocks
    self.adapter = adapter
    self.sharedLength = sharedLength
    self.backbone = backbone
    self.rungs = rungs
    self.maxTokens = maxTokens
    let size = max(unit, maxTokens)
    self.unit = min(unit, size)
    // Short calls cost an accelerator more than the logits' bytes, which are set aside though none is computed.
    let spared = runsHead ? 1 << 30 : 1 << 29
    let most =
      runsHead || !backbone.engine.isCPU ? max(1, spared / (4 * backbone.vocabulary)) : backbone.head.rowsPerCall
    let wanted = stopsAtLastTap ? Self.textsWithoutRows : putsOutAll ? nil : finalRows
    outputsPerCall = min(self.unit, most, wanted ?? most)
    // The engine sets aside one row of logits per sequence, whether it is asked for or not.
    maxSequences =
      backbone.takesOneSequence
      ? 1 : max(1, min(texts, Self.mostTexts, outputsPerCall, llama_max_parallel_sequences() / 2))
    let names = try backbone.graphNames()
    if rungs.first == 0, names.embedding == nil {
      throw LadderError(
        .data,
        "\(backbone.path): the embedding has no name in the graph of this architecture "
          + "(\(backbone.file.architecture)): rung 0 cannot be read")
    }
    capture = TapCapture(
      rungs: rungs, names: names, stopsAtNorm: !runsHead, stopsAtLastTap: stopsAtLastTap,
      copies: backbone.engine.isCPU ? nil : try Graph(backbone.engine, nodes: 8),
      products: engineAlone ? nil : backbone.engine.products)
    var parameters = llama_context_default_params()
    parameters.n_ctx = UInt32(Self.context(tokens: size))
    parameters.n_batch = UInt32(self.unit)
    parameters.n_ubatch = UInt32(self.unit)
    blocksRun = stopsAtLastTap ? rungs.last ?? .max : .max
    owner = try engineAlone ? backbone.joinEngines(blocks: blocksRun) : backbone.join(blocks: blocksRun)
    let isKept = keepsWindow && llama_model_n_swa(owner.model) > 0
    parameters.n_seq_max = UInt32(isKept ? 2 * maxSequences : maxSequences)
    parameters.n_outputs_max = max(UInt32(outputsPerCall), parameters.n_seq_max)
    parameters.n_threads = Int32(backbone.engine.threads)
    parameters.n_threads_batch = Int32(backbone.engine.threads)
    parameters.kv_unified = true
    if exactAttention {
      parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED
      parameters.type_k = GGML_TYPE_F32
      parameters.type_v = GGML_TYPE_F32
    }
    parameters.swa_full = keepsWindow
    parameters.no_perf = true
    parameters.cb_eval_user_data = Unmanaged.passUnretained(capture).toOpaque()
    parameters.cb_eval = { tensor, ask, data in
      guard let tensor, let data else { return false }
      let capture = Unmanaged<TapCapture>.fromOpaque(data).takeUnretainedValue()
      return ask ? capture.wants(tensor) : capture.take(tensor)
    }
    Log.clearError()
    guard let context = llama_init_from_model(owner.model, parameters) else {
      owner.leave(blocks: blocksRun)
      throw LadderError(
        .engine, "no memory for a context of \(maxTokens) tokens (\(Log.takeError())): use a smaller `maxLength`")
    }
    self.context = context
    memory = SequenceMemory(context, sequences: maxSequences, keepsWindow: isKept)
    if backbone.engine.isCPU, let logits = llama_get_logits(context) {
      // The engine has cleared room for logits of each text: what is not written stays with the system.
      ProcessMemory.release(
        UnsafeRawBufferPointer(start: logits, count: 4 * backbone.vocabulary * Int(parameters.n_seq_max)))
    }
    llama_attach_threadpool(context, backbone.engine.threadpool, backbone.engine.threadpool)
    if let adapter {
      var adapters: [OpaquePointer?] = [adapter.pointer]
      var scales: [Float] = [1]
      guard llama_set_adapters_lora(context, &adapters, 1, &scales) == 0 else {
        llama_free(context)
        owner.leave(blocks: blocksRun)
        throw LadderError(.engine, "llama.cpp could not apply the adapter")
      }
    }
    batch = llama_batch_init(Int32(self.unit), 0, 2)
  }

  deinit {
    llama_batch_free(batch)
    llama_free(context)
    owner.leave(blocks: blocksRun)
  }

  /// Runs whole samples, each text as a sequence; what two texts share belongs to both.
  /// - Parameters:
  ///   - taps: one BF16 or F32 [width, tokens of all samples] per rung; filled.
  ///   - final: F32 [width, loss rows of all samples]; filled.
  package func run(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) throws {
    precondition(final == nil || !stopsAtLastTap, "nothing behind the last tap is run")
    capture.begin(taps: taps, final: final)
    var first = 0
    while first < samples.count {
      // As many whole samples as one call holds: a short sample then attends over a short cache.
      var last = first
      var tokens = 0, outputs = 0, sequences = 0
      while last < samples.count, sequences + samples[last].texts <= maxSequences {
        let sample = samples[last]
        if last > first, tokens + sample.tokens.count > unit || outputs + outputRows(sample) > outputsPerCall {
          break
        }
        if last > first, max(sample.tokens.count, samples[first].tokens.count) > sharedLength { break }
        tokens += sample.tokens.count
        outputs += outputRows(sample)
        sequences += sample.texts
        last += 1
      }
      guard last > first else { throw LadderError(.engine, "this model takes no two texts at once") }
      clear()
      var call = Call()
      sequences = 0
      for sample in samples[first..<last] {
        var loss = sample.lossRows[...]
        let positions = sample.positions
        for piece in last - first == 1 ? pieces(sample) : [sample.tokens.indices] {
          for row in piece {
            let isLoss = !stopsAtLastTap && loss.first == row
            if isLoss { loss = loss.dropFirst() }
            append(sample.tokens[row], positions[row], sample.texts(of: row, first: sequences), isLoss, &call)
          }
          if last - first == 1 { try flush(&call) }
        }
        sequences += sample.texts
      }
      try flush(&call)
      first = last
    }
  }

  private func outputRows(_ sample: PackedSample) -> Int {
    putsOutAll ? sample.tokens.count : stopsAtLastTap ? 0 : sample.lossRows.count
  }

  /// Forgets every sequence.
  package func clear() { memory.clear() }

  package func clear(sequence: Int) { _ = memory.cut(sequence, to: 0) }

  /// Forgets what a sequence holds from a token on; false where the model cannot: then it forgot nothing.
  package func cut(sequence: Int, to tokens: Int) -> Bool { memory.cut(sequence, to: tokens) }

  /// Makes a sequence's first tokens those of another, which is empty; both then hold them, once.
  package func share(sequence: Int, with other: Int, tokens: Int) {
    memory.share(sequence, with: other, tokens: tokens)
  }

  /// What is added to one of the sequences that are being decoded.
  package struct Extension {
    package var sequence: Int
    /// Tokens of the sequence before these.
    package var past: Int
    package var tokens: [Int32]

    package init(sequence: Int, past: Int, tokens: [Int32]) {
      self.sequence = sequence
      self.past = past
      self.tokens = tokens
    }
  }

  /// Runs each extension after what its sequence holds; the last row of each is a loss row.
  /// Shapes as in `run`, for these tokens alone; final [width, extensions].
  package func extend(_ extensions: [Extension], taps: [Tensor], final: Tensor?) throws {
    capture.begin(taps: taps, final: final)
    var call = Call()
    for added in extensions {
      for (index, token) in added.tokens.enumerated() {
        if call.tokens == unit || call.outputs == outputsPerCall { try flush(&call) }
        append(token, added.past + index, added.sequence...added.sequence, index == added.tokens.count - 1, &call)
      }
    }
    try flush(&call)
    for added in extensions { memory.grew(added.sequence, to: added.past + added.tokens.count) }
  }

  /// The model's own logits at the last loss row, where it runs its head; valid until the next call.
  package var lastLogits: UnsafeBufferPointer<Float>? {
    llama_get_logits_ith(context, -1).map { UnsafeBufferPointer(start: $0, count: backbone.vocabulary) }
  }

  // MARK: - Calls of the engine

  private struct Call {
    var tokens = 0
    var outputs = 0
    /// Of its outputs those that are handed out, where more are put out.
    var picks: [Int] = []
  }

  private func append(
    _ token: Int32, _ position: Int, _ sequences: ClosedRange<Int>, _ isLoss: Bool, _ call: inout Call
  ) {
    let place = call.tokens
    batch.token[place] = token
    batch.pos[place] = Int32(position)
    batch.n_seq_id[place] = Int32(sequences.count)
    for (index, sequence) in sequences.enumerated() { batch.seq_id[place]?[index] = Int32(sequence) }
    let isOutput = isLoss || putsOutAll
    batch.logits[place] = isOutput ? 1 : 0
    call.tokens += 1
    if isLoss { call.picks.append(call.outputs) }
    if isOutput { call.outputs += 1 }
  }

  private func flush(_ call: inout Call) throws {
    if call.tokens == 0 { return }
    batch.n_tokens = Int32(call.tokens)
    Log.clearError()
    capture.census = backbone.engine.census
    if putsOutAll { capture.expect(call.picks) }
    let status = backbone.engine.inTurn {
      backbone.engine.products?.begin()
      return llama_decode(context, batch)
    }
    guard status == 0 else {
      throw LadderError(.engine, "the backbone's forward pass failed (status \(status)): \(Log.takeError())")
    }
    try capture.finishCall(tokens: call.tokens, outputs: call.outputs)
    call = Call()
  }
}

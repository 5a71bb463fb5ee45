import CLlama
import Foundation
import LadderCore

/// ggml's backend of the processor, which may be a plug-in: what lives in it is asked for by name and never linked.
struct ProcessorBackend {
  let device: ggml_backend_dev_t
  private let newPool: @convention(c) (UnsafeMutablePointer<ggml_threadpool_params>?) -> ggml_threadpool_t?
  private let freePool: @convention(c) (ggml_threadpool_t?) -> Void
  private let setPool: @convention(c) (ggml_backend_t?, ggml_threadpool_t?) -> Void
  private let setThreads: @convention(c) (ggml_backend_t?, Int32) -> Void

  /// Loads plug-ins where nothing is linked: those beside the program, or else those where ggml was installed.
  static func loadPlugins() { _ = plugins }

  private static let plugins: Void = {
    guard ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) == nil else { return }
    let folder = Bundle.main.executableURL?.resolvingSymlinksInPath().deletingLastPathComponent().path ?? "."
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    // ggml itself would look into the working folder too.
    if files.contains(where: { $0.contains("ggml-cpu") }) {
      ggml_backend_load_all_from_path(folder)
    } else {
      ggml_backend_load_all()
    }
  }()

  /// - Throws: `engine` where there is none.
  init() throws(LadderError) {
    Self.loadPlugins()
    guard let device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU),
      let registry = ggml_backend_dev_backend_reg(device)
    else {
      throw LadderError(
        .engine, "this llama.cpp has no CPU backend: build it with one, or put its plug-ins beside the program")
    }
    func find(_ name: String) throws(LadderError) -> UnsafeMutableRawPointer {
      guard let function = ggml_backend_reg_get_proc_address(registry, name) else {
        throw LadderError(.engine, "the CPU backend of this llama.cpp has no \(name): take the version of bootstrap")
      }
      return function
    }
    self.device = device
    newPool = unsafeBitCast(
      try find("ggml_threadpool_new"),
      to: (@convention(c) (UnsafeMutablePointer<ggml_threadpool_params>?) -> ggml_threadpool_t?).self)
    freePool = unsafeBitCast(
      try find("ggml_threadpool_free"), to: (@convention(c) (ggml_threadpool_t?) -> Void).self)
    setPool = unsafeBitCast(
      try find("ggml_backend_cpu_set_threadpool"),
      to: (@convention(c) (ggml_backend_t?, ggml_threadpool_t?) -> Void).self)
    setThreads = unsafeBitCast(
      try find("ggml_backend_set_n_threads"), to: (@convention(c) (ggml_backend_t?, Int32) -> Void).self)
  }

  /// - Throws: `engine` where so many threads cannot be started.
  func makePool(threads: Int) throws(LadderError) -> ggml_threadpool_t {
    var parameters = ggml_threadpool_params_default(Int32(threads))
    guard let pool = newPool(&parameters) else {
      throw LadderError(.engine, "could not start \(threads) threads; pass a smaller `threads`")
    }
    return pool
  }

  func free(_ pool: ggml_threadpool_t) { freePool(pool) }

  func use(_ pool: ggml_threadpool_t, of threads: Int, in backend: ggml_backend_t) {
    setThreads(backend, Int32(threads))
    setPool(backend, pool)
  }
}

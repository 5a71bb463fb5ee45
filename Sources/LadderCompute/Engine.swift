import CKernels
import CLlama
import Foundation
import LadderCore

/// A device that ggml was built for.
public struct Device: Sendable {
  /// ggml's name, as `--device` takes it: `CPU`, `CUDA0`, `MTL0`, `Vulkan0`.
  public let name: String
  /// The hardware's own name.
  public let description: String
  /// Bytes of the device's own memory; 0 where it does not say.
  public let memory: Int
  /// Whether it is another than the processor.
  public let isAccelerator: Bool

  /// Every device of the ggml that is linked.
  public static var all: [Device] {
    Log.install()
    ProcessorBackend.loadPlugins()
    return (0..<ggml_backend_dev_count()).compactMap { index in
      guard let device = ggml_backend_dev_get(index) else { return nil }
      var free = 0, total = 0
      ggml_backend_dev_memory(device, &free, &total)
      return Device(
        name: String(cString: ggml_backend_dev_name(device)),
        description: String(cString: ggml_backend_dev_description(device)), memory: total,
        isAccelerator: ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU)
    }
  }

  /// A device by its name; for nil the first accelerator, or else the CPU.
  /// - Throws: `usage` where there is none of this name.
  static func named(_ name: String?) throws -> ggml_backend_dev_t? {
    ProcessorBackend.loadPlugins()
    guard let name else {
      return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU)
        ?? ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)
    }
    guard let device = ggml_backend_dev_by_name(name) else {
      let names = all.map(\.name).joined(separator: ", ")
      throw LadderError(.usage, "no device \(name): this build has \(names)")
    }
    return device
  }
}

/// The backends that graphs run on: the chosen device, and the CPU for what the device cannot do.
///
/// Its threads are shared with llama.cpp's contexts, so that two pools never spin against each other, and its backends
/// hold work memory: computations of several tasks take turns (`inTurn`).
package final class Engine: @unchecked Sendable {
  package let device: ggml_backend_dev_t
  package let threads: Int
  package let isCPU: Bool
  /// The device's backend first, the CPU's last; one entry where the device is the CPU.
  let backends: [ggml_backend_t]
  /// Whether the device has an operation for the causal mask; else masks are given to it.
  let masksCausally: Bool
  /// Measured where the engine starts.
  private(set) var roundsProducts = RoundedProducts.none
  /// Numbers that one operation may take: some Vulkan devices have 65,535 groups of 512. Tests set fewer.
  var mostNumbers = Int.max
  package let threadpool: ggml_threadpool_t
  private let processor: ProcessorBackend
  /// Whether graphs' dense products are `DenseProduct`'s: on a processor that is the faster for it. Tests try both.
  var usesDenseProducts: Bool
  /// The same for the products of frozen, quantised weights.
  var usesQuantisedProducts: Bool
  private let turn = NSRecursiveLock()
  /// Memory in which the threads pack what `DenseProduct` multiplies; computations take turns.
  let productScratch: UnsafeMutableRawPointer
  /// The same kernels in llama.cpp's graphs; nil where they are not used.
  package private(set) var products: EngineProducts?
  /// Where operations are counted, while somebody asks.
  package var census: OperationCensus? {
    get { inTurn { currentCensus } }
    set { inTurn { currentCensus = newValue } }
  }
  private var currentCensus: OperationCensus?

  /// Processors that this process may run on: threads that wait for each other must not share one.
  package static var processors: Int {
    #if canImport(Darwin)
      // The efficiency cores would keep the others waiting.
      var fast: Int32 = 0, size = MemoryLayout<Int32>.size
      if sysctlbyname("hw.perflevel0.physicalcpu", &fast, &size, nil, 0) == 0, fast > 0 { return Int(fast) }
    #endif
    let all = ProcessInfo.processInfo.activeProcessorCount
    let allowed = processorMask.reduce(0) { $0 + ($1.hexDigitValue?.nonzeroBitCount ?? 0) }
    return allowed > 0 ? min(allowed, all) : all
  }

  /// Which they are, as Linux says it: a mask in hexadecimal digits ("Cpus_allowed:\tff"). Empty elsewhere.
  package static var processorMask: String {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed:") }
    return line.map { $0.dropFirst("Cpus_allowed:".count).trimmingCharacters(in: .whitespaces) } ?? ""
  }

  /// - Parameters:
  ///   - threads: CPU threads; nil takes one per core that the process may use.
  ///   - deviceName: one of `Device.all`; nil takes the first accelerator, or the CPU.
  /// - Throws: `usage` for a device that is not there, `engine` where a backend does not start.
  package init(threads: Int? = nil, device deviceName: String? = nil) throws {
    Log.install()
    llama_backend_init()
    let threads = max(1, threads ?? Self.processors)
    processor = try ProcessorBackend()
    let device = try Device.named(deviceName) ?? processor.device
    guard let cpu = ggml_backend_dev_init(processor.device, nil) else {
      throw LadderError(.engine, "the CPU backend did not start")
    }
    let pool = try processor.makePool(threads: threads)
    processor.use(pool, of: threads, in: cpu)
    if device == processor.device {
      backends = [cpu]
    } else {
      guard let accelerator = ggml_backend_dev_init(device, nil) else {
        throw LadderError(.engine, "device \(String(cString: ggml_backend_dev_name(device))) did not start")
      }
      backends = [accelerator, cpu]
    }
    masksCausally = Self.masksCausally(backends[0])
    self.device = device
    self.threads = threads
    isCPU = device == processor.device
    usesDenseProducts = isCPU && DenseProduct.isFast
    usesQuantisedProducts = isCPU
    threadpool = pool
    productScratch = .allocate(byteCount: ladder_multiply_scratch(Int32(threads)), alignment: 64)
    productScratch.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
    products = EngineProducts(self)
    if isVulkan {
      mostNumbers = 65_535 * 512
      roundsProducts = try RoundedProducts(self)
    }
  }

  private static func masksCausally(_ backend: ggml_backend_t) -> Bool {
    let context = ggml_init(
      ggml_init_params(mem_size: 4 * ggml_tensor_overhead(), mem_buffer: nil, no_alloc: true))
    defer { ggml_free(context) }
    let scores = ggml_new_tensor_2d(context, GGML_TYPE_F32, 32, 32)
    return ggml_backend_supports_op(backend, ggml_diag_mask_inf_inplace(context, scores, 0))
  }

  deinit {
    for backend in backends { ggml_backend_free(backend) }
    processor.free(threadpool)
    productScratch.deallocate()
  }

  /// Runs one computation while no other runs on this engine. A computation within a computation is part of it.
  package func inTurn<Result, Failure: Error>(_ computation: () throws(Failure) -> Result) throws(Failure) -> Result {
    turn.lock()
    defer { turn.unlock() }
    return try computation()
  }

  package var name: String { String(cString: ggml_backend_dev_name(device)) }

  /// The device's name without its number: `CPU`, `CUDA`, `MTL`, `Vulkan`.
  package var kind: String { String(name.reversed().drop(while: \.isNumber).reversed()) }

  /// Whether ggml's Vulkan backend drives the device, which has limits of its own.
  package var isVulkan: Bool { kind == "Vulkan" }

  /// The version of ggml that is linked.
  package static var version: String { String(cString: ggml_version()) }

  /// Bytes of the device's memory in use, by its own count; 0 for the CPU, whose memory is the process's.
  package var deviceBytesInUse: Int {
    if isCPU { return 0 }
    var free = 0, total = 0
    ggml_backend_dev_memory(device, &free, &total)
    return total - free
  }

  var main: ggml_backend_t { backends[0] }

  /// The operations that `body` runs.
  package func counting(_ body: () throws -> Void) rethrows -> OperationCensus {
    let own = OperationCensus()
    census = own
    defer { census = nil }
    try body()
    return own
  }

  /// Whether one of the backends runs the operation and reaches the memory that its result is to lie in.
  func canRun(_ operation: UnsafeMutablePointer<ggml_tensor>) -> Bool {
    guard let buffer = operation.pointee.buffer ?? operation.pointee.view_src?.pointee.buffer else { return true }
    let type = ggml_backend_buffer_get_type(buffer)
    return backends.contains { ggml_backend_supports_buft($0, type) && ggml_backend_supports_op($0, operation) }
  }

  /// Whether the chosen device itself runs the operation.
  package func supports(_ operation: UnsafeMutablePointer<ggml_tensor>?) -> Bool {
    ggml_backend_supports_op(main, operation)
  }

  /// Bytes that a tensor takes in the device's memory: some devices pad its rows for their kernels.
  func bytes(of tensor: UnsafeMutablePointer<ggml_tensor>) -> Int {
    ggml_backend_buft_get_alloc_size(ggml_backend_get_default_buffer_type(main), tensor)
  }

  func allocate(_ bytes: Int) throws(LadderError) -> ggml_backend_buffer_t {
    guard let buffer = ggml_backend_alloc_buffer(main, max(bytes, 1)) else {
      throw LadderError(
        .engine,
        "no memory for \(bytes >> 20) MB on \(name): use a smaller `batchSize`, `maxLength` or `microBatchTokens`"
      )
    }
    return buffer
  }
}

/// What llama.cpp and ggml log: the last error is kept for messages, the rest goes to `sink`.
package enum Log {
  private static let lock = NSLock()
  nonisolated(unsafe) private static var lastError = ""
  nonisolated(unsafe) private static var handler: (@Sendable (String) -> Void)?
  nonisolated(unsafe) private static var installed = false

  /// Where the engine's log lines go; nil drops them.
  package static func setSink(_ sink: (@Sendable (String) -> Void)?) { lock.withLock { handler = sink } }

  package static func install() {
    lock.withLock {
      if installed { return }
      installed = true
      let callback: ggml_log_callback = { level, text, _ in
        guard let text else { return }
        Log.receive(level, String(cString: text))
      }
      llama_log_set(callback, nil)
      ggml_log_set(callback, nil)
    }
  }

  private static func receive(_ level: ggml_log_level, _ text: String) {
    let line = text.trimmingCharacters(in: .whitespacesAndNewlines)
    if line.isEmpty || line.allSatisfy({ $0 == "." }) { return }
    let sink = lock.withLock { () -> (@Sendable (String) -> Void)? in
      // The first error says the cause; those after it are its consequences.
      if level == GGML_LOG_LEVEL_ERROR, lastError.isEmpty { lastError = line }
      return handler
    }
    sink?(line)
  }

  /// What happens where ggml gives up, before it ends the process.
  package static func setLastWords(_ words: @escaping @convention(c) (UnsafePointer<CChar>?) -> Void) {
    ggml_set_abort_callback(words)
  }

  package static func clearError() { lock.withLock { lastError = "" } }
  package static func takeError() -> String {
    lock.withLock {
      defer { lastError = "" }
      return lastError
    }
  }
}

import CLlama
import Foundation
import LadderCore

/// Machines that hold blocks of a model and run them, over ggml's RPC: each runs `ladder worker`, or llama.cpp's own
/// rpc-server of the same version.
package struct RemoteWorkers: @unchecked Sendable {
  /// One for each device of each worker, in their order.
  package let devices: [ggml_backend_dev_t]

  /// Connects.
  /// - Parameter endpoints: `host:port` of each worker.
  /// - Throws: `usage` for what is no address, `missing` where none answers, `engine` where this ggml has no RPC.
  package init(_ endpoints: [String]) throws {
    // What is written to a worker that is gone fails, and ggml says so; the signal would end the process without a word.
    signal(SIGPIPE, SIG_IGN)
    typealias Add = @convention(c) (UnsafePointer<CChar>?) -> ggml_backend_reg_t?
    let add = unsafeBitCast(try Self.function("ggml_backend_rpc_add_server"), to: Add.self)
    devices = try endpoints.flatMap { endpoint in
      // ggml ends the process where it cannot connect.
      try Self.knock(endpoint)
      guard let registry = try Self.within(seconds: 10, { add(endpoint) }) else {
        throw LadderError(
          .missing,
          "\(endpoint) is busy with another program, or no worker of this version of ggml (\(Engine.version))")
      }
      return (0..<ggml_backend_reg_dev_count(registry)).compactMap { ggml_backend_reg_dev_get(registry, $0) }
    }
  }

  /// What `body` gives, nil where it takes too long: a worker lets others wait while it has a program to serve.
  private static func within<R>(seconds: Int, _ body: @escaping () -> R?) throws -> R? {
    nonisolated(unsafe) let body = body
    nonisolated(unsafe) var result: R?
    let done = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      result = body()
      done.signal()
    }
    return done.wait(timeout: .now() + .seconds(seconds)) == .success ? result : nil
  }

  private static func function(_ name: String) throws -> UnsafeMutableRawPointer {
    ProcessorBackend.loadPlugins()
    guard let registry = ggml_backend_reg_by_name("RPC"),
      let function = ggml_backend_reg_get_proc_address(registry, name)
    else {
      throw LadderError(.engine, "this ggml is built without RPC: take the one that bootstrap builds (-DGGML_RPC=ON)")
    }
    return function
  }

  /// - Throws: `missing` where nobody listens.
  private static func knock(_ endpoint: String) throws {
    guard let colon = endpoint.lastIndex(of: ":"), let port = UInt16(endpoint[endpoint.index(after: colon)...]),
      port > 0,
      colon > endpoint.startIndex
    else { throw LadderError(.usage, "a worker is HOST:PORT, and not \(endpoint.shown)") }
    var hints = addrinfo(), found: UnsafeMutablePointer<addrinfo>?
    hints.ai_family = AF_INET
    #if canImport(Glibc)
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #else
      hints.ai_socktype = SOCK_STREAM
    #endif
    let code = getaddrinfo(String(endpoint[..<colon]), String(port), &hints, &found)
    guard code == 0, let address = found?.pointee else {
      throw LadderError(.missing, "no worker \(endpoint): \(String(cString: gai_strerror(code)))")
    }
    defer { freeaddrinfo(found) }
    let socket = socket(address.ai_family, address.ai_socktype, address.ai_protocol)
    defer { close(socket) }
    guard socket >= 0, connect(socket, address.ai_addr, address.ai_addrlen) == 0 else {
      throw LadderError(.missing, "no worker answers at \(endpoint): \(String(cString: strerror(errno)))")
    }
  }

  /// Holds and runs blocks for one program at a time, for as long as the process lives.
  /// - Parameters:
  ///   - host: a numeric address of this machine.
  ///   - device: one of `Device.all`; nil takes the first accelerator, or the CPU.
  /// - Throws: `usage` for a device that is not there or a port that is taken, `engine` where this ggml has no RPC.
  package static func serve(host: String, port: Int, threads: Int, device name: String?) throws {
    typealias Start =
      @convention(c) (
        UnsafePointer<CChar>?, UnsafePointer<CChar>?, Int, Int, UnsafeMutablePointer<ggml_backend_dev_t?>?
      ) -> Void
    let start = unsafeBitCast(try function("ggml_backend_rpc_start_server"), to: Start.self)
    var devices: [ggml_backend_dev_t?] = [try Device.named(name)]
    // ggml takes numbers alone.
    let host = host == "localhost" ? "127.0.0.1" : host
    var address = in_addr()
    guard inet_pton(AF_INET, host, &address) == 1 else {
      throw LadderError(.usage, "`host` is an address of this machine in numbers, as 127.0.0.1, and not \(host.shown)")
    }
    start("\(host):\(port)", nil, threads, devices.count, &devices)
    throw LadderError(.usage, "cannot listen at \(host):\(port): is the port taken?")
  }
}

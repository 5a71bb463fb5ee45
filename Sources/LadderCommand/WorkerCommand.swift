import ArgumentParser
import Foundation
import Ladder

struct WorkerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker",
    abstract: "Hold and run a part of a model for a program on another machine (--workers).",
    discussion: """
      The program names its workers as --workers HOST:PORT,…: llama.cpp shares the model's blocks out among them by their
      memory and sends them the weights. A worker serves one program at a time, over ggml's RPC.

      That protocol knows no password and hides nothing: whoever reaches the port can use this machine's memory. So a
      worker listens on 127.0.0.1 unless told otherwise, and is reached through a tunnel:

        ssh -N -L 50052:127.0.0.1:50052 worker-1      # then --workers 127.0.0.1:50052
      """)

  @Option(help: ArgumentHelp("Address to listen on.", valueName: "address")) var host = "127.0.0.1"
  @Option(help: ArgumentHelp("Port to listen on.", valueName: "N")) var port = 50052
  @Option(help: ArgumentHelp("CPU threads (default: one per core).", valueName: "N")) var threads: Int?
  @Option(
    help: ArgumentHelp(
      "Device that holds and runs the blocks (default: the first accelerator, or the CPU).", valueName: "name"))
  var device: String?
  @Flag(help: "Show ggml's own log.") var verbose = false

  func run() async throws {
    guard (1...65535).contains(port) else { throw LadderError(.usage, "--port must be 1 to 65535") }
    if let threads, threads < 1 { throw LadderError(.usage, "--threads must be 1 or more") }
    if verbose {
      EngineLog.show { Terminal.note($0) }
    } else {
      // ggml says there what this command does.
      let nowhere = open("/dev/null", O_WRONLY)
      dup2(nowhere, STDOUT_FILENO)
      close(nowhere)
    }
    if !host.hasPrefix("127."), host != "localhost" {
      Terminal.note("whoever reaches \(host):\(port) can use this machine's memory: the protocol has no password")
    }
    Terminal.note("a worker at \(host):\(port), until it is stopped")
    try EngineWorker.serve(host: host, port: port, threads: threads, device: device)
  }
}

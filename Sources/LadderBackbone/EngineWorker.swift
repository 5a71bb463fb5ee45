import LadderCompute
import LadderCore

/// This machine in the service of a backbone elsewhere.
public enum EngineWorker {
  /// Holds and runs blocks for one backbone at a time that names this machine among its `workers`: for as long as the
  /// process lives. The protocol knows no password and hides nothing.
  /// - Parameters:
  ///   - host: a numeric address of this machine.
  ///   - threads: CPU threads; nil takes one per core.
  ///   - device: one of `Device.all`; nil takes the first accelerator, or the CPU.
  /// - Throws: `usage` for a device that is not there or a port that is taken, `engine` where ggml has no RPC.
  public static func serve(host: String, port: Int, threads: Int? = nil, device: String? = nil) throws(LadderError) {
    try LadderError.unify {
      try RemoteWorkers.serve(host: host, port: port, threads: threads ?? Engine.processors, device: device)
    }
  }
}

import Foundation
import LadderCompute

/// What an MPI launcher left in a process's environment: mpirun of Open MPI or of MPICH and its kin, or srun with PMI.
struct MPILauncher: Equatable {
  /// Processes in all; nil where it does not say.
  var processes: Int?
  /// This process's number among those on its machine; nil where it does not say.
  var localRank: Int?
  /// Whether it is Open MPI's.
  var isOpenMPI: Bool
  /// Whether it may be any: srun with PMIx starts both kinds.
  private var isAny: Bool
  private var named: String?
  private var path: String

  /// - Parameter environment: of the process; nil where no launcher started it.
  init?(_ environment: [String: String]) {
    func number(_ names: String...) -> Int? {
      for name in names { if let value = environment[name].flatMap({ Int($0) }) { return value } }
      return nil
    }
    isOpenMPI = environment["OMPI_COMM_WORLD_SIZE"] != nil
    isAny = environment["PMIX_RANK"] != nil
    processes = number("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_NRANKS")
    if processes == nil, isAny { processes = number("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") }
    guard processes != nil || isAny else { return nil }
    localRank = number("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
    named = environment["LADDER_MPI"].flatMap { $0.isEmpty ? nil : $0 }
    path = environment["PATH"] ?? ""
  }

  /// Where the library may be, the likeliest first: beside the launcher, then where the system looks.
  func libraries() -> [String] {
    if let named { return [named] }
    #if canImport(Darwin)
      let open = ["libmpi.40.dylib", "libmpi.dylib"], others = ["libmpi.12.dylib", "libmpi.dylib"]
      let standard = ["libmpi_abi.1.dylib", "libmpi_abi.dylib"]
    #else
      let open = ["libmpi.so.40", "libmpi.so"], others = ["libmpi.so.12", "libmpich.so.12", "libmpi.so"]
      let standard = ["libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi_abi.so"]
    #endif
    let names = (isOpenMPI ? open : isAny ? others + open : others) + standard
    let folders = folders(), beside = names.flatMap { name in folders.map { $0 + "/" + name } }
    return beside.filter { FileManager.default.fileExists(atPath: $0) } + names
  }

  /// The library folders of the installations whose launchers are on the path.
  private func folders() -> [String] {
    path.split(separator: ":").filter { FileManager.default.isExecutableFile(atPath: $0 + "/mpirun") }.flatMap {
      let root = (String($0) as NSString).deletingLastPathComponent
      return ["lib", "lib64"].map { "\(root)/\($0)" }
    }
  }
}

/// What a launcher says before MPI begins.
public enum MPIEnvironment {
  /// The accelerator for this process, where those on this machine have several to share; nil leaves it open.
  public static var device: String? {
    let accelerators = Device.all.filter(\.isAccelerator)
    guard accelerators.count > 1 else { return nil }
    return MPILauncher(ProcessInfo.processInfo.environment)?.localRank.map {
      accelerators[$0 % accelerators.count].name
    }
  }
}

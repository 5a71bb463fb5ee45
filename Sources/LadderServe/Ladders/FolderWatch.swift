import Foundation
import ServiceLifecycle

/// Looks at the folder of runs every second, so that what is put there is loaded before somebody asks for it.
struct FolderWatch: Service {
  let catalogue: Catalogue

  func run() async throws {
    await cancelWhenGracefulShutdown {
      while (try? await Task.sleep(for: .seconds(1))) != nil { await catalogue.lookAtAll() }
    }
  }
}

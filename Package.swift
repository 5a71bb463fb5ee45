// swift-tools-version: 6.0
import PackageDescription

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]
/// Modules whose inner loops run over rows × vocabulary on the host.
let numeric: [SwiftSetting] = strict

let package = Package(
  name: "ladder",
  platforms: [.macOS(.v14)],
  products: [
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
  ],
  targets: [
    // llama.cpp and ggml: `scripts/bootstrap` builds them and writes the pkg-config file.
    .systemLibrary(name: "CLlama", pkgConfig: "llama", providers: [.brew(["llama.cpp"])]),

    .target(name: "LadderCompute", dependencies: ["CLlama"], swiftSettings: numeric),
    .testTarget(name: "LadderComputeTests", dependencies: ["LadderCompute"], swiftSettings: strict),
  ]
)

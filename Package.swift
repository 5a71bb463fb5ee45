// swift-tools-version: 6.0
import PackageDescription

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]
/// Modules whose inner loops run over rows × vocabulary on the host.
let numeric: [SwiftSetting] = strict

let package = Package(
  name: "ladder",
  platforms: [.macOS(.v14)],
  products: [
    .library(name: "Ladder", targets: ["Ladder"]),
    .executable(name: "ladder", targets: ["LadderCommand"]),
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
    .target(name: "LadderBackbone", dependencies: ["LadderCompute"], swiftSettings: numeric),
    .target(name: "LadderSide", dependencies: ["LadderBackbone"], swiftSettings: strict),
    .target(name: "LadderData", dependencies: ["LadderBackbone"], swiftSettings: strict),
    .target(name: "LadderTrain", dependencies: ["LadderSide", "LadderData"], swiftSettings: strict),
    .target(name: "LadderEval", dependencies: ["LadderTrain"], swiftSettings: strict),

    // What `import Ladder` gives: the modules above under one name.
    .target(name: "Ladder", dependencies: ["LadderEval"], swiftSettings: strict),

    .executableTarget(
      name: "LadderCommand",
      dependencies: [
        "Ladder", "Yams",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/ladder", swiftSettings: strict),

    .target(name: "TestModels", dependencies: ["LadderBackbone"], path: "Tests/TestModels", swiftSettings: strict),
    .testTarget(name: "LadderComputeTests", dependencies: ["LadderCompute"], swiftSettings: strict),
    .testTarget(name: "LadderBackboneTests", dependencies: ["LadderBackbone", "TestModels"], swiftSettings: strict),
    .testTarget(name: "LadderSideTests", dependencies: ["LadderSide", "TestModels"], swiftSettings: strict),
    .testTarget(name: "LadderDataTests", dependencies: ["LadderData", "TestModels"], swiftSettings: strict),
    .testTarget(name: "LadderTrainTests", dependencies: ["LadderTrain", "TestModels"], swiftSettings: strict),
    .testTarget(name: "LadderEvalTests", dependencies: ["Ladder", "TestModels"], swiftSettings: strict),
    .testTarget(name: "LadderCommandTests", dependencies: ["LadderCommand", "TestModels"], swiftSettings: strict),
  ]
)

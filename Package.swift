// swift-tools-version: 6.2
import PackageDescription

// CI sets LADDER_STRICT: a warning then fails the build. Elsewhere a newer compiler's new warnings fail nothing.
let settings: [SwiftSetting] =
  [.swiftLanguageMode(.v6)] + (Context.environment["LADDER_STRICT"] == nil ? [] : [.treatAllWarnings(as: .error)])

let package = Package(
  name: "ladder",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Ladder", targets: ["Ladder"]),
    .library(name: "LadderStudy", targets: ["LadderStudy"]),
    .library(name: "LadderServe", targets: ["LadderServe"]),
    .library(name: "LadderMPI", targets: ["LadderMPI"]),
    .library(name: "LadderHub", targets: ["LadderHub", "LadderDistil"]),
    .executable(name: "ladder", targets: ["LadderCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", exact: "1.5.0"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", exact: "2.13.0"),
    .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", exact: "1.35.2"),
    .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
  ],
  targets: [
    // llama.cpp and ggml: `scripts/bootstrap` builds them and writes the pkg-config file.
    .systemLibrary(name: "CLlama", pkgConfig: "llama"),

    // Conversations as llama.cpp's server renders them: C functions over its common library.
    .target(name: "CChat", dependencies: ["CLlama"]),

    // Dense products and loops over rows of numbers, for the processor at hand.
    .target(name: "CKernels"),

    // MPI from a library that is found at run time.
    .target(name: "CMPI"),

    // Errors, durable files, random streams, cancellation: no C library.
    .target(name: "LadderCore", swiftSettings: settings),
    // Samples, and samples as tokens; it knows no model.
    .target(name: "LadderData", dependencies: ["LadderCore"], swiftSettings: settings),
    // Models and data sets from the hub, in its cache's layout.
    .target(
      name: "LadderHub",
      dependencies: [
        "LadderData", .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: settings),
    .target(name: "LadderCompute", dependencies: ["LadderCore", "CLlama", "CKernels"], swiftSettings: settings),
    .target(
      name: "LadderBackbone", dependencies: ["LadderCompute", "LadderData", "CChat", "CKernels"],
      swiftSettings: settings),
    // What can be trained on a frozen model: a folder for each, and one list of them (Method.swift).
    .target(name: "LadderMethods", dependencies: ["LadderBackbone"], swiftSettings: settings),
    .target(name: "LadderTrain", dependencies: ["LadderMethods"], swiftSettings: settings),
    // Training in several processes, over MPI.
    .target(name: "LadderMPI", dependencies: ["LadderTrain", "CMPI"], swiftSettings: settings),
    // Text from a model and what was trained on it: one loop that commands, library and server share.
    .target(name: "LadderInference", dependencies: ["LadderTrain"], swiftSettings: settings),
    .target(name: "LadderEval", dependencies: ["LadderInference"], swiftSettings: settings),

    // Data sets of a larger model's answers.
    .target(name: "LadderDistil", dependencies: ["LadderEval", "LadderHub"], swiftSettings: settings),

    // Plans, benchmarks and studies, run through jobs: a product of its own.
    .target(name: "LadderStudy", dependencies: ["LadderEval"], swiftSettings: settings),

    // Models and runs over HTTP, in OpenAI's interface, and a page.
    .target(
      name: "LadderServe",
      dependencies: [
        "LadderInference",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Metrics", package: "swift-metrics"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
      ],
      resources: [.embedInCode("Page"), .embedInCode("OpenAPI")], swiftSettings: settings),

    // What `import Ladder` gives: the modules above under one name.
    .target(name: "Ladder", dependencies: ["LadderEval"], swiftSettings: settings),

    .executableTarget(
      name: "LadderCommand",
      dependencies: [
        "Ladder", "LadderStudy", "LadderServe", "LadderHub", "LadderDistil", "LadderMPI", "CChat", "Yams",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),

    .target(
      name: "TestModels", dependencies: ["LadderStudy"], path: "Tests/TestModels", exclude: ["fake_hub.py"],
      swiftSettings: settings),
    // What works with each of llama.cpp's architectures: `make models` writes it to docs/models.md.
    .executableTarget(
      name: "model-table", dependencies: ["TestModels"], path: "Tests/ModelTable", swiftSettings: settings),
    .testTarget(name: "LadderHubTests", dependencies: ["LadderHub", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderComputeTests", dependencies: ["LadderCompute"], swiftSettings: settings),
    .testTarget(name: "LadderBackboneTests", dependencies: ["LadderBackbone", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderSideTests", dependencies: ["LadderMethods", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderLoRATests", dependencies: ["LadderEval", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderDataTests", dependencies: ["LadderData", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderTrainTests", dependencies: ["LadderTrain", "TestModels"], swiftSettings: settings),
    .testTarget(
      name: "LadderInferenceTests", dependencies: ["LadderInference", "TestModels"], swiftSettings: settings),
    .testTarget(
      name: "LadderServeTests",
      dependencies: [
        "LadderServe", "TestModels", .product(name: "AsyncHTTPClient", package: "async-http-client"),
      ], swiftSettings: settings),
    .testTarget(name: "LadderEvalTests", dependencies: ["Ladder", "TestModels"], swiftSettings: settings),
    .testTarget(name: "LadderStudyTests", dependencies: ["LadderStudy", "TestModels"], swiftSettings: settings),
    .testTarget(
      name: "LadderCommandTests", dependencies: ["LadderCommand", "TestModels"], exclude: ["Earlier"],
      swiftSettings: settings),
  ],
  cxxLanguageStandard: .cxx17
)

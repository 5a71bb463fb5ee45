import Foundation

/// The device that numerical tests run on: `LADDER_TEST_DEVICE` names an accelerator (`make test-accelerator`), the
/// processor is the default.
public let testDevice = ProcessInfo.processInfo.environment["LADDER_TEST_DEVICE"] ?? "CPU"

import Foundation

/// The device that numerical tests run on: `LADDER_TEST_DEVICE` names an accelerator (`make test-accelerator`), the
/// processor is the default.
public let testDevice = ProcessInfo.processInfo.environment["LADDER_TEST_DEVICE"] ?? "CPU"

/// How far apart two results may be.
///
/// CUDA multiplies up to 16 columns of F32 in TF32, which has 10 bits of mantissa, and more of them in F32: results that
/// were worked in calls of other sizes differ by that.
public func tolerance<Number: BinaryFloatingPoint>(_ exact: Number, cuda: Number) -> Number {
  testDevice.hasPrefix("CUDA") ? cuda : exact
}

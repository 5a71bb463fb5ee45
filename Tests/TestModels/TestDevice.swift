import Foundation
import LadderCompute

/// The device that numerical tests run on: `LADDER_TEST_DEVICE` names an accelerator (`make test-accelerator`), the
/// processor is the default.
public let testDevice = ProcessInfo.processInfo.environment["LADDER_TEST_DEVICE"] ?? "CPU"

/// Whether that is Mesa's Vulkan device in software.
public let testDeviceIsSoftware =
  testDevice != "CPU" && Device.all.contains { $0.name == testDevice && $0.description.contains("llvmpipe") }

/// A model of real size whose weights are in F32, where `LADDER_TEST_F32_MODEL` names one.
public let modelInF32 = ProcessInfo.processInfo.environment["LADDER_TEST_F32_MODEL"]

/// How far apart two results may be.
///
/// CUDA multiplies up to 16 columns of F32 in TF32, which has 10 bits of mantissa, and more of them in F32: results that
/// were worked in calls of other sizes differ by that. ggml's Vulkan backend rounds the keys of llama.cpp's attention to
/// half precision, even those in F32.
public func tolerance<Number: BinaryFloatingPoint>(_ exact: Number, cuda: Number, vulkan: Number? = nil) -> Number {
  if testDevice.hasPrefix("Vulkan"), let vulkan { return vulkan }
  return testDevice.hasPrefix("CUDA") ? cuda : exact
}

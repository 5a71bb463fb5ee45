import ArgumentParser
import Ladder
import LadderStudy

// The library's option values, as ArgumentParser reads them: where it is one of a few words, help and errors list them.

extension MethodOptions.Name: ExpressibleByArgument {}
extension SideConfiguration.CrossConnection: ExpressibleByArgument {}
extension SideConfiguration.TapNorm: ExpressibleByArgument {}
extension SideConfiguration.StatisticsRows: ExpressibleByArgument {}
extension SideConfiguration.Initialisation: ExpressibleByArgument {}
extension SideConfiguration.Gates: ExpressibleByArgument {}
extension SideConfiguration.Precision: ExpressibleByArgument {}
extension Switch: ExpressibleByArgument {}
extension Overlong: ExpressibleByArgument {}
extension Objective: ExpressibleByArgument {}
extension EarlierTurns: ExpressibleByArgument {}
extension PreferenceSettings.Loss: ExpressibleByArgument {}
extension Schedule: ExpressibleByArgument {}
extension HeadMode: ExpressibleByArgument {}
extension GradientFormat: ExpressibleByArgument {}
extension TrainingOptions.Optimizer: ExpressibleByArgument {}
extension CacheFormat: ExpressibleByArgument {}
extension Metric: ExpressibleByArgument {}
extension DepthStudy.Problems: ExpressibleByArgument {}

extension SideConfiguration.Rungs: ExpressibleByArgument {
  public init?(argument: String) { self.init(optionText: argument) }
  public static var allValueStrings: [String] { ["middle", "all", "N", "i,j,k"] }
}

extension SideConfiguration.Downsampler: ExpressibleByArgument {
  public init?(argument: String) { self.init(optionText: argument) }
  public static var allValueStrings: [String] { ["linear", "lowrank:K", "pool"] }
}

extension LoRAConfiguration.Targets: ExpressibleByArgument {
  public init?(argument: String) { self.init(optionText: argument) }
  public static var allValueStrings: [String] { ["all-linear", "attn", "q,k,v,o,gate,up,down"] }
}

extension LoRAConfiguration.Blocks: ExpressibleByArgument {
  public init?(argument: String) { self.init(optionText: argument) }
  public static var allValueStrings: [String] { ["N", "a-b"] }
}

extension ByteSize: ExpressibleByArgument {
  public init?(argument: String) { self.init(optionText: argument) }
  public var defaultValueDescription: String { optionText }
}

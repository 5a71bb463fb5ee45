import LadderCore
import LadderData
import LadderMethods

/// How a run is trained, as users choose it. What is left open has its default.
public struct TrainingOptions: NamedOptions {
  /// The optimiser's name: AdamW, or with its state in 8 bits.
  public enum Optimizer: String, OptionValue, Codable, CaseIterable {
    case adamw
    /// With its state in 8 bits.
    case adamw8bit
  }

  /// Those of the method.
  public var method = MethodOptions()
  public var epochs: Double?
  public var steps: Int?
  public var maxLength: Int?
  public var overlong: Overlong?
  public var chatTemplate: String?
  public var chatTemplateOptions: String?
  public var earlierTurns: EarlierTurns?
  public var objective: Objective?
  public var preferenceLoss: PreferenceSettings.Loss?
  public var beta: Double?
  public var labelSmoothing: Double?
  public var batchSize: Int?
  public var microBatch: Int?
  public var learningRate: Float?
  public var schedule: Schedule?
  public var warmup: Float?
  public var weightDecay: Float?
  public var average: Float?
  public var warmStart: String?
  public var optimizer: Optimizer?
  public var clip: Float?
  public var head: HeadMode?
  public var exactGradient: Bool?
  public var gradientFormat: GradientFormat?
  public var seed: UInt64?
  public var checkpointEvery: Int?
  public var validateEvery: Int?

  public init() {}

  public static var fields: [OptionField<TrainingOptions>] {
    OptionField.all(of: \.method) + [
      .init("epochs", \.epochs), .init("steps", \.steps), .init("max-length", \.maxLength),
      .init("overlong", \.overlong), .init("chat-template", \.chatTemplate),
      .init("chat-template-options", \.chatTemplateOptions), .init("earlier-turns", \.earlierTurns),
      .init("objective", \.objective),
    ] + preferenceFields + [
      .init("batch-size", \.batchSize), .init("micro-batch", \.microBatch), .init("learning-rate", \.learningRate),
      .init("schedule", \.schedule), .init("warmup", \.warmup), .init("weight-decay", \.weightDecay),
      .init("average", \.average), .init("warm-start", \.warmStart), .init("optimizer", \.optimizer),
      .init("clip", \.clip), .init("head", \.head), .init("exact-gradient", \.exactGradient),
      .init("gradient-format", \.gradientFormat), .init("seed", \.seed),
      .init("checkpoint-every", \.checkpointEvery), .init("validate-every", \.validateEvery),
    ]
  }

  private static var preferenceFields: [OptionField<TrainingOptions>] {
    [
      .init("preference-loss", \.preferenceLoss), .init("beta", \.beta), .init("label-smoothing", \.labelSmoothing),
    ]
  }

  /// The settings.
  /// - Throws: `usage` for options that go with another choice than the one made.
  public func configuration() throws(LadderError) -> TrainingConfiguration {
    var settings = TrainingConfiguration()
    settings.method = try method.chosen()
    settings.steps = steps
    settings.objective = objective
    settings.preference = try preference()
    settings.chat = try ChatSettings(
      templatePath: chatTemplate, options: chatTemplateOptions, earlierTurns: earlierTurns)
    settings.warmStart = warmStart
    // Exact is what no word means too: runs that differ in that alone are alike.
    settings.head = head == .cached ? .cached : nil
    settings.gradientFormat = gradientFormat == .bfloat16 ? .bfloat16 : nil
    assign(&settings.epochs, epochs)
    assign(&settings.maxLength, maxLength)
    assign(&settings.overlong, overlong)
    assign(&settings.batchSize, batchSize)
    assign(&settings.microBatchTokens, microBatch)
    assign(&settings.learningRate, learningRate)
    assign(&settings.schedule, schedule)
    assign(&settings.warmup, warmup)
    assign(&settings.weightDecay, weightDecay)
    assign(&settings.clip, clip)
    assign(&settings.averaging, average)
    assign(&settings.eightBitOptimiser, optimizer.map { $0 == .adamw8bit })
    assign(&settings.filtersGradient, exactGradient.map { !$0 })
    assign(&settings.seed, seed)
    assign(&settings.checkpointEvery, checkpointEvery)
    assign(&settings.validateEvery, validateEvery)
    return settings
  }

  private func preference() throws(LadderError) -> PreferenceSettings? {
    guard objective == .preference else {
      if let field = Self.preferenceFields.first(where: { $0.value(self) != nil }) {
        throw LadderError(.usage, "`\(field.property)` goes with `objective` preference")
      }
      return nil
    }
    var settings = PreferenceSettings()
    assign(&settings.loss, preferenceLoss)
    assign(&settings.beta, beta)
    assign(&settings.labelSmoothing, labelSmoothing)
    return settings
  }
}

extension Overlong: OptionValue {}
extension Objective: OptionValue {}
extension EarlierTurns: OptionValue {}
extension PreferenceSettings.Loss: OptionValue {}
extension Schedule: OptionValue {}
extension HeadMode: OptionValue {}
extension GradientFormat: OptionValue {}

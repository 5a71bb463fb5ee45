import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import LadderMethods
import LadderTrain

/// Many texts at once, for the model and for several side networks over it, against one at a time.
public struct GenerationBenchmark: Sendable {
  /// What is measured.
  public struct Options: Sendable {
    /// Texts at once.
    public var texts = 16
    /// Side networks over the model, which answers too.
    public var ladders = 8
    /// Tokens that all prompts begin with.
    public var shared = 1000
    /// Tokens that each text is continued by.
    public var generated = 64
    public init() {}
  }

  /// Tokens generated in a second, and seconds until a prompt's first token is there.
  public struct Result: Codable, Sendable {
    /// The model alone, one text.
    public var modelTokensPerSecond: Double
    /// A side network, one text.
    public var oneTokensPerSecond: Double
    /// All texts together, of the model and of every side network.
    public var allTokensPerSecond: Double
    /// A prompt of which nothing was read before.
    public var coldSeconds: Double
    /// The mean over the other side networks, whose prompts begin alike.
    public var sharedSeconds: Double
    /// Of each of those: tokens that were held already.
    public var reusedTokens: [Int]
    public var texts: Int
    public var ladders: Int
    public var peakBytes: Int
    public var weightsBytes: Int

    enum CodingKeys: String, CodingKey {
      case modelTokensPerSecond = "model_tokens_per_second"
      case oneTokensPerSecond = "one_tokens_per_second"
      case allTokensPerSecond = "all_tokens_per_second"
      case coldSeconds = "cold_seconds"
      case sharedSeconds = "shared_seconds"
      case reusedTokens = "reused_tokens"
      case texts, ladders
      case peakBytes = "peak_bytes"
      case weightsBytes = "weights_bytes"
    }
  }

  private let backbone: Backbone
  private let configuration: TrainingConfiguration
  private let options: Options

  /// - Parameter configuration: its method is the side networks'; their weights are zero.
  public init(_ backbone: Backbone, _ configuration: TrainingConfiguration, _ options: Options) throws(LadderError) {
    guard configuration.method.keepsActivations, case .ladder = configuration.method else {
      throw LadderError(.usage, "texts that share the model's passes are those of side networks: take lst or xladder")
    }
    guard options.texts > 0, options.ladders > 0, options.shared > 0, options.generated > 1 else {
      throw LadderError(.usage, "`texts`, `ladders` and `shared` must be 1 or more, `generated` 2 or more")
    }
    self.backbone = backbone
    self.configuration = configuration
    self.options = options
  }

  /// - Parameter report: called with what is being measured.
  public func run(_ report: (String) -> Void = { _ in }) throws(LadderError) -> Result {
    try LadderError.unify { try measure(report) }
  }

  private func measure(_ report: (String) -> Void) throws -> Result {
    let models = try [AdaptedModel(BackbonePredictor(backbone))] + (0..<options.ladders).map { _ in try ladder() }
    let tokens = (options.texts + 1) * (options.shared + 64 + options.generated)
    let loop = try GenerationLoop(backbone, .init(tokens: tokens, texts: options.texts + 1, reuses: true))
    loop.expectedRungs = Set(models.flatMap(\.rungs))

    report("one text at a time")
    _ = try generate(loop, [(models[0], prompt(1000, after: 16))], 8)
    let model = try generate(loop, [(models[0], prompt(1001, after: 16))], options.generated)
    let one = try generate(loop, [(models[1], prompt(1002, after: 16))], options.generated)
    report("\(options.texts) texts at once")
    let mixed = (0..<options.texts).map { (models[$0 % models.count], prompt($0, after: 16)) }
    let all = try generate(loop, mixed, options.generated)
    report("prompts that begin alike")
    let beginning = prompt(2000, after: options.shared)
    let cold = try generate(loop, [(models[1], beginning)], 2)
    let others = try models.dropFirst(2).enumerated().map { index, model in
      try generate(loop, [(model, beginning + prompt(3000 + index, after: 8))], 2)
    }
    return Result(
      modelTokensPerSecond: model.tokensPerSecond, oneTokensPerSecond: one.tokensPerSecond,
      allTokensPerSecond: all.tokensPerSecond, coldSeconds: cold.first,
      sharedSeconds: others.reduce(0) { $0 + $1.first } / Double(max(1, others.count)),
      reusedTokens: others.map(\.reused), texts: options.texts, ladders: options.ladders,
      peakBytes: backbone.peakBytes, weightsBytes: backbone.weightsBytes)
  }

  private struct Measured {
    var tokensPerSecond: Double
    /// Until the first token was there, of the first text.
    var first: Double
    var reused: Int
  }

  private func generate(
    _ loop: GenerationLoop, _ texts: [(model: AdaptedModel, prompt: [Int32])], _ count: Int
  ) throws -> Measured {
    var settings = GenerationOptions()
    settings.maxTokens = count
    settings.ignoresEnd = true
    var ended: [Generation] = []
    for text in texts {
      try loop.add(Prompt(text.prompt, options: settings, end: AnswerEnd()), to: text.model) { update in
        if case .ended(.success(let generation)) = update { ended.append(generation) }
      }
    }
    let began = ContinuousClock.now
    while try loop.step() {}
    guard ended.count == texts.count, let one = ended.first else {
      throw LadderError(.engine, "a text did not come to its end")
    }
    // What follows the first tokens: prompts are measured apart.
    let tokens = ended.reduce(0) { $0 + $1.tokens - 1 }, slowest = ended.map(\.promptSeconds).max() ?? 0
    return Measured(
      tokensPerSecond: Double(tokens) / max(1e-9, (ContinuousClock.now - began).seconds - slowest),
      first: one.promptSeconds, reused: one.reusedTokens)
  }

  /// A side network that adds nothing: its weights are zero.
  private func ladder() throws -> AdaptedModel {
    guard case .ladder(let side) = configuration.method else { throw LadderError(.usage, "no side network") }
    let geometry = try SideGeometry(side, backboneWidth: backbone.width, blocks: backbone.blocks)
    return AdaptedModel(SidePredictor(try SideNetwork(side, geometry, backbone.engine, trainable: false), backbone))
  }

  /// Tokens that no other number's prompt begins with.
  private func prompt(_ number: Int, after count: Int) -> [Int32] {
    var random = SeededRandom(seed: 1, number)
    return (0..<count).map { _ in Int32.random(in: 16..<Int32(backbone.vocabulary), using: &random) }
  }
}

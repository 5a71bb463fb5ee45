import LadderBackbone

/// How text is generated.
public struct GenerationOptions: Sendable {
  /// The most tokens to generate.
  public var maxTokens = 256
  /// How tokens are drawn.
  public var sampling = SamplingOptions()
  /// Texts that end the generation where they appear; they are no part of it.
  public var stop: [String] = []
  /// Go on behind the model's own end of a text, up to `maxTokens`: to measure.
  public var ignoresEnd = false
  /// Read control tokens' names in the prompt as those tokens.
  public var parsesSpecial = false
  /// How many of the likeliest tokens are told with each that is generated; nil tells no probabilities at all.
  public var logProbabilities: Int?
  /// Tell with each token how likely it is for the model alone. Only with a side network, where it costs one more row
  /// of the head.
  public var comparesWithModel = false

  public init() {}

  /// 0 takes the likeliest token at every step.
  public var temperature: Float {
    get { sampling.temperature }
    set { sampling.temperature = newValue }
  }

  /// Keeps the likeliest tokens that together reach this probability.
  public var topP: Float {
    get { sampling.topP }
    set { sampling.topP = newValue }
  }

  /// Of the draws, where the temperature is above 0.
  public var seed: UInt32 {
    get { sampling.seed }
    set { sampling.seed = newValue }
  }
}

/// Generated text, and what it took.
public struct Generation: Sendable {
  /// What was generated, without the prompt.
  public var text: String
  /// Tokens generated.
  public var tokens: Int
  /// Tokens of the prompt.
  public var promptTokens: Int
  /// Of those, the ones that an earlier text had in common and that were not read again.
  public var reusedTokens = 0
  /// What reading the prompt took, until the first token was there.
  public var promptSeconds: Double
  /// What generating the others took.
  public var decodeSeconds: Double
  /// The model ended the text itself.
  public var ended: Bool
  /// The stop text that ended it.
  public var stop: String?

  /// Generated tokens in a second.
  public var tokensPerSecond: Double { Double(tokens) / max(1e-9, decodeSeconds) }
}

/// A token that was generated.
public struct GeneratedToken: Sendable, Equatable {
  /// In the model's vocabulary.
  public var id: Int32
  /// Its text, which may be a part of a character, as UTF-8.
  public var bytes: [UInt8]
  /// ln p of the token among all, before temperature and the like; nil where it was not asked for.
  public var logProbability: Double?
  /// The same for the model alone, where that was asked for.
  public var modelLogProbability: Double?
  /// The likeliest tokens, the first first.
  public var likeliest: [Candidate] = []

  /// A token that might have been.
  public struct Candidate: Sendable, Equatable {
    /// In the model's vocabulary.
    public var id: Int32
    /// Its text as UTF-8.
    public var bytes: [UInt8]
    /// ln p.
    public var logProbability: Double
  }
}

import Foundation
import LadderInference
import LadderTrain

/// What a server is told.
public struct ServerSettings: Sendable {
  /// What a client may ask for.
  public struct Limits: Sendable {
    /// Bytes of a request's body.
    public var body = 4 << 20
    /// Bytes of all bodies that are being read; a request beyond them is told to come again.
    public var bodies = 64 << 20
    /// Requests that wait for a place, beside those that are answered; more are refused.
    public var queue = 256
    /// Seconds that an answer may take, waiting included.
    public var seconds: Double = 600
    /// Open connections; more wait to be accepted.
    public var connections = 1024
    /// Seconds without a byte after which a connection is closed.
    public var idleSeconds: Double = 75
    /// Tokens of an answer where a request names no number.
    public var defaultTokens = 1024

    public init() {}
  }

  /// The address to listen at.
  public var host = "127.0.0.1"
  /// 0 takes a free port.
  public var port = 8080
  /// The base model's name; nil is its file's.
  public var modelName: String?
  /// A folder of runs and adapters: each is served under its name, and new ones are found.
  public var folder: String?
  /// Runs' folders and GGUF adapters that are served beside those, by their names.
  public var adapters: [String] = []
  /// Names beside localhost that requests may come under where the server listens for this machine alone: a proxy's.
  public var hosts: [String] = []
  /// The key that requests have to carry; nil takes any request.
  public var key: String?
  /// Whether requests may load and unload runs.
  public var allowsLoading = false
  /// The origin that other sites' pages may ask from: `*`, or one; nil is none.
  public var origin: String?
  public var limits = Limits()
  public var generation = GenerationEngine.Settings()
  /// How conversations are rendered; nil is as each run was trained, or as the model has it.
  public var template: ChatSettings?

  public init() {}
}

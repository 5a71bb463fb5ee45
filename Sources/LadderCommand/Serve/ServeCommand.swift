import ArgumentParser
import Foundation
import Ladder
import LadderServe
import Logging

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve the model and what you trained on it over HTTP, in OpenAI's interface, with a page for people.",
    discussion: """
      Each run is a model by its folder's name; they share the backbone, its passes and what it has read. A run that is
      put into --ladders, or replaced there, answers from the next request on. Runs of QLoRA and GGUF adapters change the
      model itself: each has a context of its own.

        curl http://127.0.0.1:8080/v1/chat/completions -d '{"model": "first", "messages": [{"role": "user", "content": "Hi"}]}'

      http://127.0.0.1:8080/ is a page to talk with the model and its runs side by side, and to follow training. Stop it
      with Ctrl-C or SIGTERM: running requests are answered first.
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var served: ServedArguments
  @Option(help: ArgumentHelp("The address to listen at; 0.0.0.0 is every one.", valueName: "address"))
  var host = "127.0.0.1"
  @Option(
    help: ArgumentHelp(
      "A name that requests may come under beside localhost, behind a proxy. Several times for several.",
      valueName: "name"))
  var allowedHost: [String] = []
  @Option(help: ArgumentHelp("The port; 0 takes a free one.", valueName: "N")) var port = 8080
  @Option(help: ArgumentHelp("The model's name for requests (default: its file's).", valueName: "name"))
  var alias: String?
  @Option(
    help: ArgumentHelp("A file with the key that requests have to carry as a bearer token.", valueName: "file"),
    completion: .file())
  var apiKeyFile: String?
  @Flag(help: "Let requests load and unload runs by /v1/load_lora_adapter.") var allowLoading = false
  @Option(help: ArgumentHelp("The origin whose pages may ask, or *.", valueName: "origin")) var cors: String?
  @OptionGroup var chatArguments: ChatArguments
  @Option(help: ArgumentHelp("Texts that wait at most; more are refused.", valueName: "N")) var queue = 256
  @Option(help: ArgumentHelp("Tokens of an answer where a chat names no number; completions have 16.", valueName: "N"))
  var maxTokens = 1024
  @Option(help: ArgumentHelp("Seconds that an answer may take, waiting included.", valueName: "seconds"))
  var timeout = 600.0
  @Option(help: ArgumentHelp("Open connections at most.", valueName: "N")) var maxConnections = 1024
  @Option(help: ArgumentHelp("The largest body of a request, e.g. 4MB.", valueName: "size"))
  var maxBody: ByteSize?

  private func settings() throws -> ServerSettings {
    func require(_ holds: Bool, _ text: String) throws { if !holds { throw LadderError(.usage, text) } }
    try require((0...65535).contains(port), "--port must be 0 to 65535")
    try require((0...1 << 20).contains(queue), "--queue must be 0 to \(1 << 20)")
    try require((1...1 << 20).contains(maxTokens), "--max-tokens must be 1 to \(1 << 20)")
    try require(timeout > 0 && timeout <= 1e6, "--timeout must be above 0 and at most 1000000")
    try require((1...1 << 20).contains(maxConnections), "--max-connections must be 1 to \(1 << 20)")
    var settings = try served.settings()
    settings.host = host
    settings.port = port
    settings.modelName = alias
    settings.hosts = allowedHost
    settings.key = try apiKeyFile.map(Self.key)
    settings.allowsLoading = allowLoading
    settings.origin = cors
    settings.template = try chatArguments.settings()
    settings.limits.queue = queue
    settings.limits.defaultTokens = maxTokens
    settings.limits.seconds = timeout
    settings.limits.connections = maxConnections
    if let maxBody { settings.limits.body = maxBody.bytes }
    return settings
  }

  private static func key(_ path: String) throws -> String {
    guard FileManager.default.fileExists(atPath: path) else { throw LadderError(.missing, "no key file at \(path)") }
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw LadderError(.inputOutput, "cannot read \(path) as text")
    }
    let key = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard !key.isEmpty, !key.contains(where: \.isWhitespace) else {
      throw LadderError(.data, "\(path) holds no key: write one word")
    }
    return key
  }

  func run() async throws {
    ProcessMemory.givesBack(blocksOf: 256 << 10, heaps: 2)
    let settings = try settings(), logger = TerminalLog.logger(verbose: options.verbose)
    let backbone = try await options.load(embeds: true)
    if let template = settings.template { backbone.language.use(template) }
    let views = SampleViews(backbone.language)
    let server = LadderServer(
      settings, engine: try GenerationEngine(backbone, settings: settings.generation),
      dataView: { try await views.view($0, $1) }, logger: logger)
    if let memory = try? GenerationMemory(backbone.file, backbone.fingerprints, settings) {
      Terminal.note("memory: \(Terminal.bytes(memory.total)) at most with the runs that are there now")
    }
    let second = SecondSignal()
    defer { second.cancel() }
    try await server.run { address in
      Terminal.output(address)
      Terminal.note("listening; \(address)/ is a page to talk, \(address)/v1 OpenAI's interface. Ctrl-C ends it")
    }
  }
}

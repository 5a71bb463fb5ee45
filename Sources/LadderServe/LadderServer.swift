import Foundation
import HTTPTypes
import Hummingbird
import LadderBackbone
import LadderCore
import LadderInference
import LadderTrain
import Logging
import NIOCore
import ServiceLifecycle

/// A model and what was trained on it over HTTP, in OpenAI's interface, with a page for people at `/`.
///
///     let engine = try GenerationEngine(backbone, settings: settings.generation)
///     try await LadderServer(settings, engine: engine).run()
///
/// It ends when the task is cancelled, and gracefully at SIGTERM and SIGINT: running requests are answered first.
public struct LadderServer: Sendable {
  /// How a run's samples are read, as JSON; the number of samples to show.
  public typealias DataView = @Sendable (RunDirectory, Int) async throws -> Data

  private let settings: ServerSettings
  private let engine: GenerationEngine?
  private let runs: RunStore
  private let dataView: DataView?
  private let logger: Logger
  private let registry = PrometheusRegistry()
  private let catalogue: Catalogue?

  /// - Parameters:
  ///   - engine: nil serves the page of training runs alone.
  ///   - runs: runs that the page shows beside those of the folder.
  ///   - dataView: shows a run's samples.
  public init(
    _ settings: ServerSettings, engine: GenerationEngine?, runs: [String] = [], dataView: DataView? = nil,
    logger: Logger = Logger(label: "ladder")
  ) {
    self.settings = settings
    self.engine = engine
    self.runs = RunStore(folder: settings.folder, paths: runs + settings.adapters.filter { !$0.hasSuffix(".gguf") })
    self.dataView = dataView
    self.logger = logger
    catalogue = engine.map { engine in
      Catalogue(
        engine, base: settings.modelName ?? Catalogue.name(of: engine.backbone.path),
        folder: settings.folder, template: settings.template, logger: logger)
    }
  }

  /// Serves until it is told to end.
  /// - Parameters:
  ///   - handlesSignals: whether SIGTERM and SIGINT end it.
  ///   - listening: called with the address once it takes requests.
  /// - Throws: `usage` where the address is taken or cannot be; what loading the settings' runs throws.
  public func run(
    handlesSignals: Bool = true, listening: @escaping @Sendable (String) async -> Void = { _ in }
  ) async throws(LadderError) {
    do { try await serve(handlesSignals, listening) } catch let error as APIError {
      throw LadderError(.usage, error.message)
    } catch let error as IOError {
      throw LadderError(
        .usage, "cannot listen at \(settings.host):\(settings.port): \(String(cString: strerror(error.errnoCode)))")
    } catch { throw LadderError(any: error) }
  }

  /// Serves in a task, which is cancelled to end it.
  /// - Returns: the address, once requests are taken.
  /// - Throws: as `run`.
  public func start() async throws -> (address: String, task: Task<Void, any Error>) {
    let (addresses, found) = AsyncStream<String>.makeStream()
    let task = Task {
      defer { found.finish() }
      try await run(handlesSignals: false) { found.yield($0) }
    }
    var iterator = addresses.makeAsyncIterator()
    if let address = await iterator.next() { return (address, task) }
    // Without an address the task has failed, and says how.
    try await task.value
    throw LadderError(.engine, "the server ended before it took requests")
  }

  private func serve(_ handlesSignals: Bool, _ listening: @escaping @Sendable (String) async -> Void) async throws {
    for path in settings.adapters {
      try await catalogue?.load(path, as: Catalogue.name(of: path), .settings)
    }
    await catalogue?.lookAtAll()
    let host = settings.host
    let application = Application(
      router: router(),
      server: .http1(
        configuration: .init(
          additionalChannelHandlers: [ContinueHandler()], idleTimeout: .seconds(Int64(settings.limits.idleSeconds)))),
      configuration: ApplicationConfiguration(
        address: .hostname(settings.host, port: settings.port), serverName: "ladder",
        availableConnectionsDelegate: .maximum(settings.limits.connections, logger: logger)),
      onServerRunning: { channel in
        let shown = host.contains(":") ? "[\(host)]" : host
        await listening("http://\(shown):\(channel.localAddress?.port ?? 0)")
      }, logger: logger)
    let services: [any Service] = [application] + (catalogue.map { [FolderWatch(catalogue: $0)] } ?? [])
    var configuration = ServiceGroupConfiguration(
      services: services.map { .init(service: $0, successTerminationBehavior: .gracefullyShutdownGroup) },
      gracefulShutdownSignals: handlesSignals ? [.sigterm, .sigint] : [], logger: logger)
    configuration.maximumGracefulShutdownDuration = .seconds(settings.limits.seconds)
    try await ServiceGroup(configuration: configuration).run()
  }

  // MARK: - Paths

  private typealias Handler = @Sendable (Request, ServerContext) async throws -> Response

  private func router() -> Router<ServerContext> {
    let all = routes(), router = Router(context: ServerContext.self, options: .autoGenerateHeadEndpoints)
    var paths = PathTable()
    for route in all { paths.add(route.method.rawValue, route.path) }
    router.add(middleware: RequestRecord(factory: registry))
    if let origin = settings.origin {
      router.add(
        middleware: CORSMiddleware(
          allowOrigin: origin == "*" ? .all : .custom(origin), allowHeaders: Self.headers,
          exposedHeaders: ["Retry-After"]))
    }
    router.add(middleware: ErrorForm(paths: paths))
    router.add(middleware: HostCheck(settings))
    router.add(middleware: KeyCheck(settings.key))
    for route in all { router.on(RouterPath(route.path), method: route.method, use: route.handler) }
    return router
  }

  /// Headers that other sites' pages may send: OpenAI's client for browsers says with each request what it is.
  private static let headers: [HTTPField.Name] =
    [.accept, .authorization, .contentType, .origin]
    + [
      "Idempotency-Key", "OpenAI-Beta", "OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch",
      "X-Stainless-Helper-Method", "X-Stainless-Lang", "X-Stainless-OS", "X-Stainless-Package-Version",
      "X-Stainless-Poll-Helper", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Retry-Count", "X-Stainless-Runtime",
      "X-Stainless-Runtime-Version", "X-Stainless-Timeout",
    ].compactMap { HTTPField.Name($0) }

  private struct Route {
    let method: HTTPRequest.Method
    let path: String
    let handler: Handler

    static func get(_ path: String, _ handler: @escaping Handler) -> Route {
      Route(method: .get, path: path, handler: handler)
    }

    static func post(_ path: String, _ handler: @escaping Handler) -> Route {
      Route(method: .post, path: path, handler: handler)
    }
  }

  private func routes() -> [Route] {
    let runs = RunHandler(store: runs, catalogue: catalogue, dataView: dataView)
    let common: [Route] = [
      .get("/") { request, _ in try PageFiles.response("index.html", ifNoneMatch: request.headers[.ifNoneMatch]) },
      .get("/page/:file") { request, context in
        try PageFiles.response(context.parameters.get("file") ?? "", ifNoneMatch: request.headers[.ifNoneMatch])
      },
      .get("/health") { _, _ in JSON.response(Data("{\"status\":\"ok\"}".utf8)) },
      .get("/openapi.json") { _, _ in JSON.response(Data(PageFiles.openAPI)) },
      .get("/runs") { try await runs.list($0, $1) },
      .get("/runs/:run") { try await runs.run($0, $1) },
      .get("/runs/:run/metrics") { try await runs.metrics($0, $1) },
      .get("/runs/:run/data") { try await runs.data($0, $1) },
    ]
    guard let engine, let catalogue else {
      return common + [.get("/v1/models") { _, _ in JSON.response(Data("{\"object\":\"list\",\"data\":[]}".utf8)) }]
    }
    return common + modelRoutes(engine, catalogue)
  }

  private func modelRoutes(_ engine: GenerationEngine, _ catalogue: Catalogue) -> [Route] {
    let admission = Admission(most: settings.generation.texts + settings.limits.queue)
    let bodies = Admission(most: settings.limits.bodies)
    let texts = TextHandler(
      engine: engine, catalogue: catalogue, admission: admission, limits: settings.limits, bodies: bodies,
      metrics: GenerationMetrics(factory: registry))
    let embeddings = EmbeddingHandler(
      engine: engine, catalogue: catalogue, admission: admission, limits: settings.limits, bodies: bodies)
    let models = ModelHandler(engine: engine, catalogue: catalogue, settings: settings, bodies: bodies)
    let registry = registry
    return [
      .get("/metrics") { _, _ in
        ServerGauges.tell(registry, texts: admission.count, models: await catalogue.list().count + 1)
        return Response(
          status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
          body: .init(byteBuffer: ByteBuffer(string: registry.text)))
      },
      .get("/v1/models") { try await models.list($0, $1) },
      .get("/v1/models/:model") { try await models.model($0, $1) },
      .post("/v1/chat/completions") { try await texts.chat($0, $1) },
      .post("/v1/completions") { try await texts.complete($0, $1) },
      .post("/v1/embeddings") { try await embeddings.embed($0, $1) },
      .post("/v1/load_lora_adapter") { try await models.load($0, $1) },
      .post("/v1/unload_lora_adapter") { try await models.unload($0, $1) },
    ]
  }
}

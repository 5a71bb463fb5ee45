import Foundation
import Hummingbird
import LadderCore
import LadderInference

/// Lists what is served, and loads and unloads runs.
struct ModelHandler: Sendable {
  let engine: GenerationEngine
  let catalogue: Catalogue
  let settings: ServerSettings
  let bodies: Admission

  private struct ModelObject: Encodable {
    let id: String
    let object = "model"
    let created: Int
    let ownedBy = "ladder"
    @OrNull var parent: String?
    let root: String
    @OrNull var method: String?
    let contextLength: Int

    enum CodingKeys: String, CodingKey {
      case id, object, created, parent, root, method
      case ownedBy = "owned_by"
      case contextLength = "context_length"
    }
  }

  private struct ModelList: Encodable {
    let object = "list"
    let data: [ModelObject]
  }

  private func models() async -> [ModelObject] {
    let base = ModelObject(
      id: catalogue.base, created: catalogue.began, parent: nil, root: engine.backbone.file.path, method: nil,
      contextLength: engine.capacity)
    return await [base]
      + catalogue.list().map { entry in
        ModelObject(
          id: entry.name, created: entry.created, parent: catalogue.base, root: entry.path, method: entry.method,
          contextLength: engine.capacity)
      }
  }

  func list(_: Request, _: some RequestContext) async throws -> Response {
    try JSON.response(ModelList(data: await models()))
  }

  func model(_ request: Request, _ context: some RequestContext) async throws -> Response {
    let name = context.parameters.get("model")?.removingPercentEncoding ?? ""
    guard let model = await models().first(where: { $0.id == name }) else { throw APIError.unknownModel(name) }
    return try JSON.response(model)
  }

  // MARK: - Loading

  func load(_ request: Request, _: some RequestContext) async throws -> Response {
    let fields = try await loadingFields(request)
    let name = try required("lora_name", fields), path = try required("lora_path", fields)
    try await catalogue.load(path, as: name, .request)
    return Self.text("Success: LoRA adapter '\(name.shown)' added successfully.")
  }

  func unload(_ request: Request, _: some RequestContext) async throws -> Response {
    let name = try required("lora_name", try await loadingFields(request))
    try await catalogue.unload(name)
    return Self.text("Success: LoRA adapter '\(name.shown)' removed successfully.")
  }

  private func loadingFields(_ request: Request) async throws -> Fields {
    guard settings.allowsLoading else {
      throw APIError(
        .forbidden, "this server loads no runs for requests", kind: "permission_error", code: "loading_not_allowed")
    }
    var request = request
    return try Fields(body: try await request.wholeBody(settings.limits, bodies))
  }

  private func required(_ name: String, _ fields: Fields) throws -> String {
    guard let text = try fields.text(name), !text.isEmpty else { throw APIError.bad(name, "\(name) is missing") }
    if text.unicodeScalars.contains("\0") { throw APIError.bad(name, "\(name) holds a zero byte") }
    return text
  }

  private static func text(_ text: String) -> Response {
    Response(
      status: .ok, headers: [.contentType: "text/plain; charset=utf-8"],
      body: .init(byteBuffer: ByteBuffer(string: text)))
  }
}

// The README's program, compiled and run by the tests: what stands between the two marks stands in the README word for
// word.
import Ladder

func readmeExample(
  model: String, train: String, dev: String, pairs: String, out: String
) async throws -> (result: Evaluation, judged: Evaluation) {
  // README
  let backbone = try Backbone(path: model)
  let run = RunDirectory(out)
  var settings = TrainingConfiguration()
  settings.learningRate = 1e-3
  for try await event in Trainer(backbone, settings).progress(try Sample.load(train), into: run) {
    if case .step(let step) = event { print(step.step, step.loss, step.tokensPerSecond) }
  }
  let tuned = try LadderModel(backbone, adapter: run)
  let result = try tuned.evaluate(try Sample.load(dev))
  print(result.metric, result.value, try tuned.generate("Message: Your parcel is on its way.\nFolder:").text)

  // Pairs of answers, whose reference is the model itself.
  settings.objective = .preference
  let preferred = RunDirectory(out + "-preferred")
  try Trainer(backbone, settings).train(try Sample.load(pairs), into: preferred)
  let judged = try LadderModel(backbone, adapter: preferred).evaluate(try Sample.load(pairs))
  print(judged.value, judged.margin ?? 0)
  // README
  return (result, judged)
}

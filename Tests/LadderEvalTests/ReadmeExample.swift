// The README's program, compiled and run by the tests: what stands between the two marks stands in the README word for
// word.
import Ladder

func readmeExample(model path: String, train: String, dev: String, out: String) throws {
  // README
  let backbone = try Backbone(path: path)
  let samples = try Sample.load(train)

  var settings = TrainingConfiguration()
  settings.epochs = 2
  var side = SideConfiguration()
  side.rungs = .every(2)
  settings.method = .ladder(side)

  let run = RunDirectory(out)
  try Trainer(backbone, settings).train(samples, into: run) { event in
    if case .step(let step) = event { print(step.step, step.loss, step.tokensPerSecond) }
  }

  let tuned = try LadderModel(backbone, adapter: run)
  let result = try tuned.evaluate(try Sample.load(dev))
  print(result.metric, result.value, result.loss)

  let answer = try tuned.generate("Message: Your parcel is on its way.\nFolder:")
  print(answer.text)
  // README
}

import LadderCompute
import LadderCore
import Testing

@testable import LadderStudy

@Suite struct StepProblemTests {
  @Test func resultsFollowTheSteps() throws {
    var random = SeededRandom(seed: 0)
    var problem = StepProblem(steps: 3, modulus: 5, &random)
    problem.start = 4
    problem.steps = [
      .init(operation: "+", operand: 2), .init(operation: "*", operand: 3), .init(operation: "+", operand: 4),
    ]
    #expect(problem.results == [1, 3, 2])
    #expect(problem.prompt == "Modulo 5: 4+2*3+4\nAnswer:")
    #expect(problem.completion(.none) == " #### 2")
    #expect(problem.completion(.half) == " 4+2*3=3 3+4=2 #### 2")
    #expect(problem.completion(.all) == " 4+2=1 1*3=3 3+4=2 #### 2")
  }

  @Test func drawnProblemsAreDifferentAndKeptApart() {
    let dev = StepProblem.draw(40, deepest: 8, modulus: 5, seed: 1, share: 0.2)
    let train = StepProblem.draw(400, deepest: 8, modulus: 5, seed: 2, except: Set(dev))
    // Of one step there are 35 problems.
    #expect(dev.count == 7 + 7 * 40 && Set(dev).count == dev.count)
    #expect(Set(train).count == train.count && Set(train).isDisjoint(with: dev))
    #expect(train.filter { $0.steps.count == 1 }.count == 28 && train.filter { $0.steps.count == 5 }.count == 400)
    // Every answer is about as likely, so that a guess is right one time in five.
    for digit in 0..<5 {
      let share = Double(train.filter { $0.results.last == digit }.count) / Double(train.count)
      #expect(share > 0.16 && share < 0.24)
    }
  }
}

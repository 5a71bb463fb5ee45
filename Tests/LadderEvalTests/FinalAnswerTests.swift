import Testing

@testable import LadderEval

@Suite struct FinalAnswerTests {
  @Test(arguments: [
    ("so 3 + 4 = 7\n#### 7", "7", true), ("#### 1,234", "1234", true), ("the answer is $18.00.", "18", true),
    ("first 3 then 5", "3", false), ("it is -4", "-4", true), ("", "1", false), ("no number", "2", false),
    // Ways to write a number.
    ("1000", "1,000", true), ("1,234,567.5", "1234567.5", true), ("it is .5", "0.5", true), ("0.5", ".5", true),
    ("1e5", "100000", true), ("100,000", "1E+5", true), ("1/2", "0.5", true), ("half, or 0.50", "1/2", true),
    ("2 1/2 cups", "2.5", true), ("2½", "2.5", true), ("$5", "5", true), ("5 dollars", "$5", true), ("5%", "5", true),
    ("5 km", "5", true), ("it is 5", "5 km", true), ("25 m²", "25", true), ("25 m2", "25", true),
    ("Rs500", "500", true),
    ("so it is 42...", "42", true), ("42", "42.", true), ("−3", "-3", true), ("-$3", "-3", true), ("$-3", "-3", true),
    ("10-5", "5", true), ("12\u{202F}500", "12500", true), ("５", "5", true), ("7.0", "7", true),
    ("it cost\n$1,500", "1500 dollars", true), ("on 3/4/2024", "2024", true), ("x=5", "5", true),
    // What is another number.
    ("1,2,3", "123", false), ("-5", "5", false), ("1/0", "1", false), ("2125001", "2125000", false),
    ("12345678901234567891", "12345678901234567890", false), ("0.33", "1/3", false), ("0.333333", "1/3", true),
    ("wait... 5", "0.5", false), ("wait...5", "5", true), ("#### none", "5", false), ("6 km", "5 km", false),
    // Words are never numbers.
    ("the answer is 5", "nan", false), ("NaN", "nan", true), ("3", "inf", false), ("infinity", "inf", false),
    ("nan", "5", false), ("9", "0x10", false),
  ]) func numbers(_ text: String, _ answer: String, _ matches: Bool) {
    #expect(FinalAnswer.matches(text, answer) == matches)
  }

  @Test(arguments: [
    ("blue\nGreen ", "green", true), ("x #### Paris\nmore", "paris", true), ("**Paris.**", "Paris", true),
    ("\"New   York\"", "new york", true), ("The Hague", "Hague", false), ("ﬁne", "fine", true),
    ("Ｐａｒｉｓ", "paris", true),
    ("Cafe\u{301}", "café", true), ("Straße", "strasse", false), ("C++", "C", false), ("?", "?", true),
    ("?", "!", false),
    ("", "", true), ("first\n\nroses are red\n violets are blue\n", "Roses are red\nviolets are blue", true),
    ("It was Apollo 11", "Apollo 11", false), ("Apollo 11.", "Apollo 11", true), ("Apollo 12", "Apollo 11", false),
    ("we get\n#### 8", "3 + 5 = 8\n#### 8", true), ("so yes", "yes", false),
  ]) func texts(_ text: String, _ answer: String, _ matches: Bool) {
    #expect(FinalAnswer.matches(text, answer) == matches)
  }
}

@Suite struct ClassificationTests {
  private func table(_ counts: [[Int]]) -> Classification {
    var table = Classification(labels: counts.count)
    for (right, row) in counts.enumerated() {
      for (judged, count) in row.enumerated() { for _ in 0..<count { table.add(right, judged: judged) } }
    }
    return table
  }

  /// 6 true and 3 false positives, 1 false and 2 true negatives: (6·2 − 3·1) / √(9·7·5·3).
  @Test func twoLabels() {
    let two = table([[2, 3], [1, 6]])
    #expect(abs(two.matthews - 9 / 945.0.squareRoot()) < 1e-12)
    #expect(abs(two.macroF1 - (4.0 / 8 + 12.0 / 16) / 2) < 1e-12 && abs(two.accuracy - 8.0 / 12) < 1e-12)
  }

  /// Of 10, 5 right; right 4, 3, 3 and judged 5, 3, 2: (5·10 − (20 + 9 + 6)) / √((100 − 34)(100 − 38)).
  @Test func threeLabels() {
    let three = table([[3, 1, 0], [1, 1, 1], [1, 1, 1]]), expected = 15 / 4092.0.squareRoot()
    #expect(abs(three.matthews - expected) < 1e-12)
    let ofEach = [6.0 / 9, 2.0 / 6, 2.0 / 5]
    #expect(abs(three.macroF1 - ofEach.reduce(0, +) / 3) < 1e-12)
  }

  @Test func theEnds() {
    #expect(table([[5, 0], [0, 2]]).matthews == 1 && table([[0, 5], [2, 0]]).matthews == -1)
    #expect(table([[0, 5], [0, 2]]).matthews == 0)
    #expect(abs(table([[0, 5], [0, 2]]).macroF1 - 0.5 * 4 / 9) < 1e-12)
    #expect(table([[3, 0, 0], [0, 2, 0], [0, 0, 0]]).macroF1 == 1, "a label that never comes is left out")
  }
}

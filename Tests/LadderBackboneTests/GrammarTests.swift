import LadderCore
import Testing

@testable import LadderBackbone

/// Which grammars are let through to llama.cpp's sampler.
@Suite struct GrammarTests {
  private static let refused: [String] = [
    // Begins with itself, behind what may be empty by way of other rules.
    "root ::= ws root \"x\" | \"y\"\nws ::= \" \"*", "root ::= a\na ::= b? c\nb ::= \"x\"\nc ::= [y]{0,3} a | \"z\"",
    "root ::= root",
    // May go on in too many ways.
    "root ::= " + (0..<2000).map { _ in "\"x\"? " }.joined(),
    "root ::= a0\n" + (0..<18).map { "a\($0) ::= a\($0 + 1) a\($0 + 1) | \"\"\n" }.joined() + "a18 ::= \"x\"",
    "root ::= (" + (0..<4000).map { _ in "\"xy\"" }.joined(separator: " | ") + ")+",
    "root ::= (" + (0..<4000).map { _ in "\"x\\x79\" | \"xy\"" }.joined(separator: " | ") + ")+",
    "root ::= ws root \"x\" | \"y\"\nws ::= \" \" *", "root ::= a root \"x\" | \"y\"\na ::= b\nb ::= [^]",
    "root ::= \"x\"?{2000}", "root ::= (\"x\"?){2000}",
    "root ::= \"x\" root \"y\"? | \"z\" | " + String(repeating: "a? ", count: 20_000) + "\na ::= \"b\"",
    // No grammars, and brackets that hide.
    "root ::= \"\\x\".\"" + String(repeating: "(", count: 60_000),
    "root ::= <)))> " + String(repeating: "(", count: 60_000),
    "root ::= \"\\q\"", "root = x", "", "root ::= \"x\" )",
  ]

  @Test(arguments: refused.indices) func endlessGrammarsAreRefused(_ index: Int) throws {
    let error = #expect(throws: LadderError.self) { try GrammarWork.check(Self.refused[index]) }
    #expect(
      error?.kind == .usage && error?.message.hasPrefix("the grammar") == true
        || error?.message.hasPrefix("a rule of the grammar") == true)
  }

  static let usual: [String] = [
    "root ::= \"yes\" | \"no\"",
    "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\n"
      + "term ::= ident | num | \"(\" ws expr \")\" ws\nident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*",
    "root ::= object # what is written\nvalue ::= object | array | string | (\"true\" | \"null\") ws\nobject ::=\n"
      + "  \"{\" ws (\n    string \":\" ws value (\",\" ws string \":\" ws value)*\n  )? \"}\" ws\n"
      + "array ::= \"[\" ws (value (\",\" ws value)*)? \"]\" ws\nstring ::= \"\\\"\" ([^\"\\\\] | \"\\\\\" [\"nt])* \"\\\"\" ws\n"
      + "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}",
    "root ::= \"[\" item (\",\" item)* \"]\"\nitem ::= \(names)",
    "root ::= stmt\nstmt ::= \"if (\" [a-z]+ \") \" stmt (\"else \" stmt)? | \"x; \"",
    "root ::= term\nterm ::= \"-\" term ws | [0-9]+ ws\nws ::= [ \\t] *", "root ::= <[12]> !<[3]> .* | <think>",
    "root ::= [a-z0-9\\-]+ \"x\\-y\" until\nuntil ::= | [^\\-] until | \"-\" ([^\\-] until)?",
    "root ::= char{0,32000} char{5,5000}\nchar ::= [^x]",
    "root ::= \(String(repeating: "(", count: 60))\"x\"\(String(repeating: ")", count: 60))",
    "root ::= a b? c{2,} .\na ::= (a-1 | [^x] \"\" )\na-1 ::= \"\\u00e9\\U0001F600\"\nb ::= \"b\"\nc ::= (\"c\"* b)",
  ]
  private static let names = (0..<1000).map { "\"\\\"name \($0)\\\"\"" }.joined(separator: " | ")

  @Test(arguments: usual) func usualGrammarsAreTaken(_ grammar: String) throws { try GrammarWork.check(grammar) }

  @Test func schemasOfManyPropertiesAreTaken() throws {
    let properties = (0..<150).map { #""p\#($0)": {"type": ["string", "null"], "enum": ["a", "b", null]}"# }
    let schema = #"{"type": "object", "properties": {\#(properties.joined(separator: ", "))}}"#
    for schema in [
      schema, #"{"type": "string", "pattern": "^[a-z0-9\\-]+$", "maxLength": 32000}"#,
      #"{"type": "object", "properties": {"maximum_number_of_results_per_page": {"type": "integer"}}, "#
        + #""additionalProperties": true}"#,
      #"{"type": "integer", "minimum": 1111111111111111111, "maximum": 8888888888888888888}"#,
      #"{"type": "array", "items": {"enum": [\#((0..<2000).map { "\"name \($0)\"" }.joined(separator: ", "))]}}"#,
      #"{"type": "string", "format": "date-time"}"#, "{}",
    ] {
      try GrammarWork.check(try SamplingOptions.grammar(jsonSchema: schema))
    }
  }
}

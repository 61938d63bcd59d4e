"""Parses a program in Swift, Kotlin or Dart, and names the first place that is no program. Argument: the file."""

import sys

import tree_sitter_dart
import tree_sitter_kotlin
import tree_sitter_swift
from tree_sitter import Language, Parser

GRAMMARS = {"swift": tree_sitter_swift, "kt": tree_sitter_kotlin, "dart": tree_sitter_dart}


def first_error(node):
    if node.type == "ERROR" or node.is_missing:
        return node
    broken = (first_error(child) for child in node.children if child.has_error or child.is_missing)
    return next((found for found in broken if found), None)


def main():
    [file] = sys.argv[1:]
    grammar = GRAMMARS[file.rsplit(".", 1)[1]]
    with open(file, "rb") as program:
        text = program.read()
    tree = Parser(Language(grammar.language())).parse(text)
    error = first_error(tree.root_node)
    if error:
        line = error.start_point.row
        sys.exit(f"{file}:{line + 1}: {text.decode().splitlines()[line]}")


main()

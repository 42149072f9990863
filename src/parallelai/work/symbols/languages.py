"""The table of languages: which grammar reads which files, and what is a definition, a use, or private there.

All is data: a new language is a new row. Queries are tree-sitter's own (S-expressions). In `definitions` the
capture that spans a definition is named by its kind, and `@name` is its name; `@owner` is a name to put before
it (Go's receiver), `@scope` spans what gives a prefix but defines nothing (Rust's `impl`), `@exported` a name
that a file makes public, `@hides` a word after which all of the same body is private. In `uses`, `@use` is a
name that is used, `@bound` one that is only defined or bound there, and `@call` the name of what is called.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Publicity = Literal["underscore", "capital", "export", "word", "unless"]


class Language(Struct, frozen=True):
    """One language.

    Attributes:
        name: what users call it.
        package: the grammar's Python package.
        entry: the function in it that gives the grammar.
        suffixes: of file names, in lower case, with the dot.
        definitions, uses: queries, as the module says.
        wrappers: kinds of nodes around a definition that belong to it, such as a decorator's.
        publicity: how a public name is known: no leading underscore, a capital, an export, a word in the
            signature that is needed, or words that make it private.
        words: those words.
        doc: where a definition is described: in its body, or in a comment above.
    """

    name: str
    package: str
    entry: str
    suffixes: tuple[str, ...]
    definitions: str
    uses: str
    wrappers: tuple[str, ...] = ()
    publicity: Publicity = "underscore"
    words: tuple[str, ...] = ()
    doc: Literal["body", "above"] = "above"


_PYTHON = Language(
    name="python",
    package="tree_sitter_python",
    entry="language",
    suffixes=(".py", ".pyi", ".pyw"),
    definitions="""
        (function_definition name: (identifier) @name) @function
        (class_definition name: (identifier) @name) @class
        (module (expression_statement (assignment left: (identifier) @name)) @constant)
        (module (type_alias_statement left: (type (identifier) @name)) @type)
    """,
    uses="""
        (identifier) @use
        (call function: (identifier) @call)
        (call function: (attribute attribute: (identifier) @call))
        (function_definition name: (identifier) @bound)
        (class_definition name: (identifier) @bound)
        (assignment left: (identifier) @bound)
        (parameters (identifier) @bound)
        (default_parameter name: (identifier) @bound)
        (typed_parameter (identifier) @bound)
        (typed_default_parameter name: (identifier) @bound)
        (keyword_argument name: (identifier) @bound)
    """,
    wrappers=("decorated_definition",),
    doc="body",
)

_JAVASCRIPT_DEFINITIONS = """
    (function_declaration name: (identifier) @name) @function
    (generator_function_declaration name: (identifier) @name) @function
    (method_definition name: [(property_identifier) (private_property_identifier)] @name) @method
    (lexical_declaration (variable_declarator name: (identifier) @name
        value: [(arrow_function) (function_expression)])) @function
    (variable_declaration (variable_declarator name: (identifier) @name
        value: [(arrow_function) (function_expression)])) @function
    (assignment_expression
        left: (member_expression object: (_) @owner property: (property_identifier) @name)
        right: [(arrow_function) (function_expression)]) @method
    (pair key: (property_identifier) @name value: [(arrow_function) (function_expression)]) @method
    (program (lexical_declaration (variable_declarator name: (identifier) @name)) @constant)
    (program (variable_declaration (variable_declarator name: (identifier) @name)) @constant)
    (program (export_statement
        (lexical_declaration (variable_declarator name: (identifier) @name)) @constant))
    (export_clause (export_specifier name: (identifier) @exported))
    (assignment_expression
        left: (member_expression property: (property_identifier) @_exports)
        right: [(identifier) @exported (object (shorthand_property_identifier) @exported)]
        (#eq? @_exports "exports"))
"""
_JAVASCRIPT_USES = """
    [(identifier) (property_identifier) (shorthand_property_identifier)] @use
    (call_expression function: (identifier) @call)
    (call_expression function: (member_expression property: (property_identifier) @call))
    (new_expression constructor: (identifier) @call)
    (function_declaration name: (identifier) @bound)
    (method_definition name: (property_identifier) @bound)
    (variable_declarator name: (identifier) @bound)
    (pair key: (property_identifier) @bound)
    (assignment_expression left: (member_expression property: (property_identifier) @bound)
        right: [(arrow_function) (function_expression)])
"""

_JAVASCRIPT = Language(
    name="javascript",
    package="tree_sitter_javascript",
    entry="language",
    suffixes=(".js", ".jsx", ".mjs", ".cjs"),
    definitions=_JAVASCRIPT_DEFINITIONS + "(class_declaration name: (identifier) @name) @class",
    uses=_JAVASCRIPT_USES
    + """
        (class_declaration name: (identifier) @bound)
        (formal_parameters (identifier) @bound)
    """,
    wrappers=("export_statement",),
    publicity="export",
)

_TYPESCRIPT_DEFINITIONS = (
    _JAVASCRIPT_DEFINITIONS
    + """
    (class_declaration name: (type_identifier) @name) @class
    (abstract_class_declaration name: (type_identifier) @name) @class
    (interface_declaration name: (type_identifier) @name) @interface
    (type_alias_declaration name: (type_identifier) @name) @type
    (enum_declaration name: (identifier) @name) @class
    (function_signature name: (identifier) @name) @function
    (method_signature name: (property_identifier) @name) @method
    (abstract_method_signature name: (property_identifier) @name) @method
"""
)
_TYPESCRIPT_USES = (
    _JAVASCRIPT_USES
    + """
    (type_identifier) @use
    (class_declaration name: (type_identifier) @bound)
    (interface_declaration name: (type_identifier) @bound)
    (type_alias_declaration name: (type_identifier) @bound)
    (enum_declaration name: (identifier) @bound)
    (required_parameter pattern: (identifier) @bound)
    (optional_parameter pattern: (identifier) @bound)
"""
)
_TYPESCRIPT = Language(
    name="typescript",
    package="tree_sitter_typescript",
    entry="language_typescript",
    suffixes=(".ts", ".mts", ".cts"),
    definitions=_TYPESCRIPT_DEFINITIONS,
    uses=_TYPESCRIPT_USES,
    wrappers=("export_statement",),
    publicity="export",
    words=("private", "protected"),
)
_TSX = Language(
    name="tsx",
    package="tree_sitter_typescript",
    entry="language_tsx",
    suffixes=(".tsx",),
    definitions=_TYPESCRIPT_DEFINITIONS,
    uses=_TYPESCRIPT_USES,
    wrappers=("export_statement",),
    publicity="export",
    words=("private", "protected"),
)

_GO = Language(
    name="go",
    package="tree_sitter_go",
    entry="language",
    suffixes=(".go",),
    definitions="""
        (function_declaration name: (identifier) @name) @function
        (method_declaration
            receiver: (parameter_list (parameter_declaration type: [
                (type_identifier) @owner
                (pointer_type (type_identifier) @owner)
                (generic_type type: (type_identifier) @owner)
                (pointer_type (generic_type type: (type_identifier) @owner))]))
            name: (field_identifier) @name) @method
        (type_declaration (type_spec name: (type_identifier) @name) @type)
        (type_declaration (type_alias name: (type_identifier) @name) @type)
        (source_file (const_declaration (const_spec name: (identifier) @name) @constant))
        (source_file (var_declaration (var_spec name: (identifier) @name) @constant))
        (source_file (var_declaration (var_spec_list (var_spec name: (identifier) @name) @constant)))
    """,
    uses="""
        [(identifier) (field_identifier) (type_identifier)] @use
        (call_expression function: (identifier) @call)
        (call_expression function: (selector_expression field: (field_identifier) @call))
        (function_declaration name: (identifier) @bound)
        (method_declaration name: (field_identifier) @bound)
        (type_spec name: (type_identifier) @bound)
        (parameter_declaration name: (identifier) @bound)
        (short_var_declaration left: (expression_list (identifier) @bound))
        (const_spec name: (identifier) @bound)
        (var_spec name: (identifier) @bound)
        (field_declaration name: (field_identifier) @bound)
        (keyed_element . (literal_element (identifier) @bound))
    """,
    wrappers=("type_declaration", "const_declaration", "var_declaration"),
    publicity="capital",
)

_RUST = Language(
    name="rust",
    package="tree_sitter_rust",
    entry="language",
    suffixes=(".rs",),
    definitions="""
        (function_item name: (identifier) @name) @function
        (function_signature_item name: (identifier) @name) @function
        (struct_item name: (type_identifier) @name) @class
        (enum_item name: (type_identifier) @name) @class
        (union_item name: (type_identifier) @name) @class
        (trait_item name: (type_identifier) @name) @interface
        (type_item name: (type_identifier) @name) @type
        (const_item name: (identifier) @name) @constant
        (static_item name: (identifier) @name) @constant
        (macro_definition name: (identifier) @name) @macro
        (mod_item name: (identifier) @name) @module
        (impl_item type: [
            (type_identifier) @name
            (generic_type type: (type_identifier) @name)
            (scoped_type_identifier name: (type_identifier) @name)]) @scope
    """,
    uses="""
        [(identifier) (field_identifier) (type_identifier)] @use
        (call_expression function: (identifier) @call)
        (call_expression function: (scoped_identifier name: (identifier) @call))
        (call_expression function: (field_expression field: (field_identifier) @call))
        (macro_invocation macro: (identifier) @call)
        (function_item name: (identifier) @bound)
        (struct_item name: (type_identifier) @bound)
        (enum_item name: (type_identifier) @bound)
        (trait_item name: (type_identifier) @bound)
        (parameter pattern: (identifier) @bound)
        (let_declaration pattern: (identifier) @bound)
        (const_item name: (identifier) @bound)
        (static_item name: (identifier) @bound)
        (field_declaration name: (field_identifier) @bound)
    """,
    publicity="word",
    words=("pub",),
)

_JAVA = Language(
    name="java",
    package="tree_sitter_java",
    entry="language",
    suffixes=(".java",),
    definitions="""
        (class_declaration name: (identifier) @name) @class
        (record_declaration name: (identifier) @name) @class
        (enum_declaration name: (identifier) @name) @class
        (interface_declaration name: (identifier) @name) @interface
        (annotation_type_declaration name: (identifier) @name) @interface
        (method_declaration name: (identifier) @name) @method
        (constructor_declaration name: (identifier) @name) @method
        (field_declaration declarator: (variable_declarator name: (identifier) @name)) @constant
    """,
    uses="""
        [(identifier) (type_identifier)] @use
        (method_invocation name: (identifier) @call)
        (object_creation_expression type: (type_identifier) @call)
        (class_declaration name: (identifier) @bound)
        (interface_declaration name: (identifier) @bound)
        (method_declaration name: (identifier) @bound)
        (constructor_declaration name: (identifier) @bound)
        (formal_parameter name: (identifier) @bound)
        (variable_declarator name: (identifier) @bound)
    """,
    publicity="unless",
    words=("private",),
)

_C = Language(
    name="c",
    package="tree_sitter_c",
    entry="language",
    suffixes=(".c", ".h"),
    definitions="""
        (function_definition declarator: (function_declarator declarator: (identifier) @name)) @function
        (function_definition declarator: (pointer_declarator
            declarator: (function_declarator declarator: (identifier) @name))) @function
        (translation_unit (declaration
            declarator: (function_declarator declarator: (identifier) @name)) @declaration)
        (translation_unit (declaration declarator: (pointer_declarator
            declarator: (function_declarator declarator: (identifier) @name))) @declaration)
        (struct_specifier name: (type_identifier) @name body: (_)) @class
        (union_specifier name: (type_identifier) @name body: (_)) @class
        (enum_specifier name: (type_identifier) @name body: (_)) @class
        (type_definition declarator: (type_identifier) @name) @type
        (preproc_def name: (identifier) @name) @constant
        (preproc_function_def name: (identifier) @name) @macro
    """,
    uses="""
        [(identifier) (field_identifier) (type_identifier)] @use
        (call_expression function: (identifier) @call)
        (call_expression function: (field_expression field: (field_identifier) @call))
        (function_declarator declarator: (identifier) @bound)
        (parameter_declaration declarator: (identifier) @bound)
        (init_declarator declarator: (identifier) @bound)
        (field_declaration declarator: (field_identifier) @bound)
        (preproc_def name: (identifier) @bound)
        (preproc_function_def name: (identifier) @bound)
    """,
    publicity="unless",
    words=("static",),
)

_RUBY = Language(
    name="ruby",
    package="tree_sitter_ruby",
    entry="language",
    suffixes=(".rb", ".rake", ".gemspec"),
    definitions="""
        (method name: [(identifier) (constant) (setter) (operator)] @name) @method
        (singleton_method name: [(identifier) (constant) (setter)] @name) @method
        (class name: [(constant) (scope_resolution)] @name) @class
        (module name: [(constant) (scope_resolution)] @name) @module
        (assignment left: (constant) @name) @constant
        (body_statement (identifier) @hides (#any-of? @hides "private" "protected"))
    """,
    uses="""
        [(identifier) (constant)] @use
        (call method: [(identifier) (constant)] @call)
        (method name: (identifier) @bound)
        (singleton_method name: (identifier) @bound)
        (class name: (constant) @bound)
        (module name: (constant) @bound)
        (method_parameters (identifier) @bound)
        (assignment left: [(identifier) (constant)] @bound)
    """,
)

_PHP = Language(
    name="php",
    package="tree_sitter_php",
    entry="language_php",
    suffixes=(".php", ".phtml", ".inc"),
    definitions="""
        (function_definition name: (name) @name) @function
        (method_declaration name: (name) @name) @method
        (class_declaration name: (name) @name) @class
        (interface_declaration name: (name) @name) @interface
        (trait_declaration name: (name) @name) @class
        (enum_declaration name: (name) @name) @class
        (const_element (name) @name) @constant
    """,
    uses="""
        (name) @use
        (function_call_expression function: (name) @call)
        (member_call_expression name: (name) @call)
        (scoped_call_expression name: (name) @call)
        (object_creation_expression (name) @call)
        (function_definition name: (name) @bound)
        (method_declaration name: (name) @bound)
        (class_declaration name: (name) @bound)
        (interface_declaration name: (name) @bound)
        (trait_declaration name: (name) @bound)
        (variable_name (name) @bound)
    """,
    publicity="unless",
    words=("private", "protected"),
)

LANGUAGES: tuple[Language, ...] = (
    *(_PYTHON, _JAVASCRIPT, _TYPESCRIPT, _TSX, _GO, _RUST, _JAVA, _C, _RUBY, _PHP),
)
BY_NAME: dict[str, Language] = {one.name: one for one in LANGUAGES}
BY_SUFFIX: dict[str, Language] = {suffix: one for one in LANGUAGES for suffix in one.suffixes}

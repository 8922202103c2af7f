"How a symbol is shown on the site: its signature, what it does, and its docments as a table"
from inspect import Parameter

from fastcore.docments import DocmentTbl
from nbdev.showdoc import BasicMarkdownRenderer


class Name(str):
    "The name of a function that is a default, shown as it is"
    def __repr__(self): return str.__str__(self)


class SymbolPage(BasicMarkdownRenderer):
    "A symbol's signature, what it does, and its docments as a table; nbdev shows the docments inside the signature"
    def _repr_markdown_(self):
        table = DocmentTbl(self.sym)
        source = super()._repr_markdown_().split('\n\n')[1]  # a rule, the link to the source, the heading, …
        parts = [f'### {self.nm} {{ #{self.nm.lower()} }}', source.replace(' style="float:right; font-size:smaller"', ' .source'),
                 f'```python\n{self.nm}{self.short_signature()}\n```', self.docs, str(table)]
        return '\n\n'.join(p for p in parts if p)

    def short_signature(self):
        "Names and defaults: the types are in the table"
        if self.sig is None: return ''
        def plain(p): return p.replace(annotation=Parameter.empty, default=Name(getattr(p.default, '__name__', repr(p.default))))
        params = [plain(p) if p.default is not p.empty else p.replace(annotation=p.empty) for p in self.sig.parameters.values()]
        return str(self.sig.replace(parameters=[p for p in params if p.name != 'self'], return_annotation=Parameter.empty))

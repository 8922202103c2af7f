"Links of a built site that lead nowhere"
import re
from html.parser import HTMLParser
from urllib.parse import unquote

elsewhere = re.compile(r'[a-z][a-z0-9+.-]*:|/', re.I)


class Links(HTMLParser):
    "What a page of the site can be linked by, what it links to, and what it loads"
    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]
        if tag in ('script', 'img', 'iframe') or attrs.get('rel') == 'stylesheet':
            self.loads += [attrs[k] for k in ('href', 'src') if attrs.get(k)]


def link_faults(site):
    "Links of the pages in `site` that lead nowhere in it, and what a page would load from elsewhere"
    # 404.html is shown in place of any page, so its addresses are those of the published site.
    pages = {p.resolve(): Links(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html')) if p.name != '404.html'}
    faults = []
    for page, found in pages.items():
        name = page.relative_to(site.resolve())
        faults += [f'{name} loads {o}' for o in found.loads if elsewhere.match(o) and not o.startswith('data:')]
        for address in found.links:
            if elsewhere.match(address): continue
            path, _, anchor = address.partition('#')
            target = (page.parent/unquote(path)).resolve() if path else page
            if target.is_dir(): target /= 'index.html'
            if not target.exists(): faults.append(f'{name} links to {address}, which does not exist')
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                faults.append(f'{name} links to {address}, and that page has no such place')
    return faults

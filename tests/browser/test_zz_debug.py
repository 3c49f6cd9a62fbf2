import json, time
def test_x(lab, sandbox):
    t=time.time(); T=lambda m: print(f"{time.time()-t:.2f}", m)
    path = lab.server.write_notebook(["%load_ext kimi_magics","%%kimi\nTell me about the rivers of Europe and their tributaries.","","",""])
    from contextlib import suppress
    page=lab.context.new_page(); T("page")
    page.goto(f"{lab.server.url}/lab/workspaces/x/tree/{path.name}?token=browser-tests", wait_until="commit"); T("commit")
    page.locator(".jp-Cell .cm-content").first.wait_for(); T("cells")
    while not lab.server.has_idle_kernel(path): time.sleep(.05)
    T("kernel")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(); T("idle"); page.close()
    nb=lab.open(["%load_ext kimi_magics","%%kimi\nTell me about the rivers of Europe and their tributaries.","","",""]); T("open2")
    nb.run(0); nb.wait_until_done(0)
    nb.cell(1).evaluate("""cell=>{window.frames_=[]; const f=()=>{const a=cell.querySelector('.jp-OutputArea'); window.frames_.push([Math.round(performance.now()), a?a.offsetHeight:0, a?a.innerText.length:0, a? (a.innerText.match(/\\$/g)||[]).length:0, a? a.querySelectorAll('mjx-container').length:0]); requestAnimationFrame(f)}; f()}""")
    nb.run(1); nb.wait_for_output(1," out · "); nb.wait_until_done(1); nb.page.wait_for_timeout(1000)
    fr=nb.page.evaluate("window.frames_")
    last=None; drops=0
    for f in fr:
        if f[1:]!=last: print(f)
        last=f[1:]

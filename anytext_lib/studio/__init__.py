"""The drawing application: draw regions, type words, generate, edit or erase, and see what a judge reads.

    sketch    Sketch: boxes, outlines, words, colours and the picture below them -> Request
    session   Plan: seeds, strengths, sampler -> Settings; Studio: runs a sketch by a plan
    saving    a result as a file from which it can be made again
    view      StudioApp: the widgets around it, of ``panels`` (fields) and ``canvas`` (what the mouse draws)
"""

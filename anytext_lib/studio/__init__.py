"""The drawing application: draw boxes, type words, generate or edit, and see what a judge reads.

    sketch    Sketch: boxes, words, colours and the picture below them -> Request
    session   Plan: seeds, strengths, sampler -> Settings; Studio: runs a sketch by a plan
    view      StudioApp: the widgets around it
"""

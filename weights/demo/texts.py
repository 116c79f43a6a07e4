"""Everything the demo model reads and writes: the prompt forms, the answers of each class, and the corpus its tokenizer
is trained on. The opening sentence is FakeVLM's; the sentences after it name the clue that scenes.py put into the
image, or, for a real one, what its kind of scene shows."""

CLUES = ["grid", "smooth", "melted", "shadow", "garbled", "bleed", "cloned"]
SCENES = ["street", "objects", "landscape"]

RAW = "<image>\nDoes the image looks real/fake?"
LLAVA = "USER: <image>\nDoes the image looks real/fake? ASSISTANT:"

# keyword: the phrase that only this clue's sentences hold (the evaluation looks for it)
KEYWORD = {
    "grid": "grid", "smooth": "waxy", "melted": "melt", "shadow": "shadow",
    "garbled": "garbled", "bleed": "bleed", "cloned": "repeat",
}
FAKE = {
    "grid": [
        "A regular grid runs over the surfaces, the trace of an upsampling layer. A lens and a sensor leave no such pattern.",
        "Flat areas carry a fine checkerboard grid, as generators leave it when they enlarge their features.",
    ],
    "smooth": [
        "The surfaces are waxy and too smooth. Sensor noise and fine texture are missing, although the edges stay sharp.",
        "Skin of wax seems to cover everything: waxy areas without any grain next to crisp edges do not come from a camera.",
    ],
    "melted": [
        "The outlines melt into each other. Edges that should be straight or round wobble and break.",
        "Some edges melt and bend where the object should have a clean outline, which no lens does.",
    ],
    "shadow": [
        "The shadow of an object is wrong: it falls towards the light or is missing, unlike the others.",
        "Light and shadow do not agree. At least one object has no shadow or one that points the wrong way.",
    ],
    "garbled": [
        "The fine structure is garbled: windows and letters turn into strokes without meaning.",
        "Small details are garbled. Lines that should form windows, signs or letters cross at random.",
    ],
    "bleed": [
        "Colours bleed over the outlines of the objects. The colour does not follow the edges of the shape.",
        "Strong colours bleed into their surroundings, far beyond what a lens or a JPEG file would do.",
    ],
    "cloned": [
        "Patches of texture repeat exactly. The same piece of the picture appears several times.",
        "Some areas repeat like tiles, with the same marks in each copy, which nature does not do.",
    ],
}
REAL = {
    "street": [
        "Windows and walls keep straight lines and a steady rhythm, and fine sensor grain lies evenly over the street.",
        "The rows of windows are regular, the signs are clear and the noise is that of a camera.",
    ],
    "objects": [
        "The objects have clean outlines, their cast light agrees, and natural camera noise covers the whole frame.",
        "Highlights and shade follow one lamp, outlines are clean, and the grain is even.",
    ],
    "landscape": [
        "Leaves, grass and sky have natural texture with the noise of a camera sensor all over.",
        "The plants are all different, the sky fades softly and the grain fits a camera.",
    ],
}


def answer(clue, scene, variant):
    """The text after the prompt, without the space in front: clue None is a real image."""
    if clue is None:
        return "This image is real. " + REAL[scene][variant % len(REAL[scene])]
    return "This image is fake. " + FAKE[clue][variant % len(FAKE[clue])]


def named_clue(text):
    """The clue that a generated text names, or None."""
    found = [c for c in CLUES if KEYWORD[c] in text]
    return found[0] if len(found) == 1 else None


def corpus():
    """Lines for the tokenizer: all prompts and answers, and some plain English so that other prompts split well too."""
    lines = []
    for sentences in list(FAKE.values()):
        lines += ["This image is fake. " + s for s in sentences] * 2
    for sentences in list(REAL.values()):
        lines += ["This image is real. " + s for s in sentences] * 2
    lines += ["\nDoes the image looks real/fake?"] * 12 + ["USER: ", " ASSISTANT: This image is"] * 6
    plain = """Is this picture real or fake? Please explain your answer in one sentence.
Does this photograph look real to you, or was it made by a computer?
What do you see in this image? Describe the objects, the light and the colours.
Why is the image fake? Why is the image real? Give a reason for the verdict.
A chat between a curious human and an artificial intelligence assistant.
The assistant gives helpful, detailed, and polite answers to the human's questions.
The camera stands on the ground and looks at the houses under the sky.
There are 10 people, 23 trees and 4567 stones; 89 of them are in the year 2024.
Look at the hands, the eyes, the hair and the teeth of the person.
The quick brown fox jumps over the lazy dog while the judge quizzes exactly five wizards.
THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG. ABCDEFGHIJKLMNOPQRSTUVWXYZ
(a) "quoted" text, [brackets], {braces} <angles> & more: 50% + 1 = 2 * 3 - 4 / 5; a_b#c@d~e^f|g\\h`i$j!k?
Where is the light coming from? Which side of the object is bright and which one is dark?
Real photographs have noise, fake images often have none. How can you tell them apart?
Answer with a single word, real or fake, and then explain what you have found in the image.
Is there anything strange about the background, the face, the letters or the pattern of the wall?""".split("\n")
    return lines + plain * 2

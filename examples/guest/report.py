# The script that the demo's guest runs. It is plain Python with only built-in modules, so that the interpreter takes most
# of the time, not the imports. The supervisor provides /files/words.txt, and reads /files/result.txt afterwards.

import sys


def primes(limit):
    sieve = bytearray([1]) * limit
    sieve[0:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n in range(limit) if sieve[n]]


def frequent_words(path, most):
    counts = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            for word in line.lower().split():
                word = word.strip(".,;:")
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]


def mandelbrot(width, height, depth=24, shades=" .:-=+*#%@"):
    for y in range(height):
        row = ""
        for x in range(width):
            c = complex(3.0 * x / width - 2.15, 2.2 * y / (height - 1) - 1.1)
            z, steps = 0j, 0
            while steps < depth and z.real * z.real + z.imag * z.imag < 4.0:
                z = z * z + c
                steps += 1
            row += shades[steps * (len(shades) - 1) // depth]
        yield row.rstrip()


print(f"Python {sys.version.split()[0]} on {sys.platform}, arguments {sys.argv[1:]}")

found = primes(int(sys.argv[1]))
print(f"{len(found)} primes below {sys.argv[1]}, the last ones {found[-4:]}")

words = frequent_words("/files/words.txt", 5)
print("frequent words: " + ", ".join(f"{word} {count}" for word, count in words))

for row in mandelbrot(72, 21):
    print(row)

with open("/files/result.txt", "w", encoding="utf-8") as file:
    file.write(f"2**200 = {2**200}\n")
print("result written", file=sys.stderr)
sys.exit(7)

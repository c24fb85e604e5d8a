"""The parts of a network in C.

All of it is C for a network called net, but for two things: ``real`` stands for float or double,
and @ for what ends literals and names of functions, f or nothing. ``spelt`` puts them in.
"""

from __future__ import annotations

import re

HEAD = """\
/*
 * A multi-layer perceptron of the widths {sizes}, written by fastmlp.
 *
 *     real x[NET_INPUTS], y[NET_OUTPUTS];
 *     net_forward(x, y);{use}
 *
 * x : a row of the input; {input}
 * y : {outputs}; must not overlap x
 *
 * C99 with <math.h>: link with -lm. There is no heap and no state, so that threads may call it at
 * the same time; a call takes {stack} bytes of stack for its arrays.
 *
 * With NET_MAIN defined the file is a program, which reads rows of NET_INPUTS numbers and prints
 * rows of NET_OUTPUTS: cc -O2 -DNET_MAIN <this file> -lm
"""

DECLARATIONS = """\
 */
#include <math.h>

#define NET_INPUTS {inputs}
#define NET_OUTPUTS {classes}

#ifdef __cplusplus
extern "C" {{
#endif
void net_forward(const real *x, real *y);
{prototype}#ifdef __cplusplus
}}
#endif
"""

PREDICT_CLASS = """\
int net_predict(const real *x)
{
    real y[NET_OUTPUTS];
    int k, best = 0;

    net_forward(x, y);
    for (k = 1; k < NET_OUTPUTS; k++)
        if (y[k] > y[best])
            best = k;
    return best;
}
"""

PREDICT_LABEL = """\
int net_predict(const real *x)
{
    real y[NET_OUTPUTS];

    net_forward(x, y);
    return y[0] > 0.0@;
}
"""

MAIN = """\
#ifdef NET_MAIN
#include <stdio.h>

int main(void)
{
    real x[NET_INPUTS], y[NET_OUTPUTS];
    int i, found = 1;

    for (;;) {
        for (i = 0; i < NET_INPUTS; i++) {
            found = scanf("SCAN", &x[i]);
            if (found != 1)
                break;
        }
        if (i == 0 && found == EOF)
            return 0;
        if (i < NET_INPUTS) {
            fprintf(stderr, "a row must be %d numbers, got %d\\n", NET_INPUTS, i);
            return 1;
        }
        net_forward(x, y);
        for (i = 0; i < NET_OUTPUTS; i++)
            printf("PRINT%c", (double)y[i], i + 1 < NET_OUTPUTS ? ' ' : '\\n');
    }
}
#endif
"""

# y = x W + b; the inner loop runs through W as it lies in memory.
LINEAR = """\
static void net_linear(real *y, const real *x, const real *w, const real *b, int inputs,
                       int outputs)
{
    int i, j;

    for (j = 0; j < outputs; j++)
        y[j] = b[j];
    for (i = 0; i < inputs; i++)
        for (j = 0; j < outputs; j++)
            y[j] += x[i] * w[i * outputs + j];
}
"""

LAYER_NORM = """\
static void net_layer_norm(real *z, const real *gamma, const real *beta, int width)
{{
    real mean = 0.0@, variance = 0.0@, scale;
    int j;

    for (j = 0; j < width; j++)
        mean += z[j];
    mean /= (real)width;
    for (j = 0; j < width; j++)
        variance += (z[j] - mean) * (z[j] - mean);
    scale = 1.0@ / sqrt@(variance / (real)width + {eps}@);
    for (j = 0; j < width; j++)
        z[j] = gamma[j] * ((z[j] - mean) * scale) + beta[j];
}}
"""

# w and b in turns, of which whole ones are left out: large angles keep their digits.
EMBED = """\
static void net_embed(real *y, const real *x)
{{
    const int columns = {n}, frequencies = {h}, outputs = {m};
    int j, k, m;

    for (j = 0; j < NET_INPUTS; j++)
        y[j] = x[j];
    for (j = 0; j < columns * outputs; j++)
        y[NET_INPUTS + j] = net_embed_c[j];
    for (j = 0; j < columns; j++)
        for (k = 0; k < frequencies; k++) {{
            const int at = j * frequencies + k;
            const real turns = x[j] * net_embed_w[at] + net_embed_b[at];
            const real wave = cos@(6.283185307179586@ * (turns - floor@(turns + 0.5@)));

            for (m = j * outputs; m < (j + 1) * outputs; m++)
                y[NET_INPUTS + m] += net_embed_v[m * frequencies + k] * wave;
        }}
}}
"""

# Of z, and p, the number that some have. Constants of SELU: Klambauer et al., 2017.
ACTIVATIONS = {
    "sigmoid": "1.0@ / (1.0@ + exp@(-z))",
    "tanh": "tanh@(z)",
    "relu": "z <= 0.0@ ? 0.0@ : z",
    "leaky_relu": "z <= 0.0@ ? p * z : z",
    "elu": "z <= 0.0@ ? p * expm1@(z) : z",
    "selu": "z <= 0.0@ ? 1.7580993408473766@ * expm1@(z) : 1.0507009873554805@ * z",
    "softplus": "(z <= 0.0@ ? 0.0@ : z) + log1p@(exp@(-fabs@(p * z))) / p",
    "softsign": "z / (1.0@ + fabs@(z))",
    "hard_sigmoid": "z <= -3.0@ ? 0.0@ : z >= 3.0@ ? 1.0@ : (z + 3.0@) / 6.0@",
    "hard_swish": "z <= -3.0@ ? 0.0@ : z >= 3.0@ ? z : z * (z + 3.0@) / 6.0@",
    "silu": "z / (1.0@ + exp@(-z))",
    "mish": "z * tanh@(log1p@(exp@(z)))",
    "gelu": "0.5@ * z * erfc@(-0.7071067811865476@ * z)",
    "gelu_tanh": "0.5@ * z * (1.0@ + tanh@(0.7978845608028654@ * (z + 0.044715@ * z * z * z)))",
}


def activation(name: str, parametric: bool) -> str:
    """The function of one of ``ACTIVATIONS``."""
    more = ", real p" if parametric else ""
    return f"static real net_{name}(real z{more})\n{{\n    return {ACTIVATIONS[name]};\n}}\n"


def spelt(text: str, name: str, is_float: bool) -> str:
    """The text for a network of that name, in float or double."""
    text = text.replace("@", "f" if is_float else "")
    text = re.sub(r"\breal\b", "float" if is_float else "double", text)
    return text.replace("NET_", f"{name.upper()}_").replace("net_", f"{name}_")

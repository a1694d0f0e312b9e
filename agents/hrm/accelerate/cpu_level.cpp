// One level of the HRM with attention blocks on a CPU: forward and backward, one board at a time.
//
// A board's numbers stay in the cache from the first product of a block to its last norm. The products are oneDNN's
// micro-kernels, as PyTorch hands them out; everything between them is plain loops that a compiler vectorises.
//
// Names: B boards, T positions, D channels, H heads of C channels, I inner channels of the gated MLP, L blocks.
// Rows of right sides are multiples of 16 numbers apart, as the products want them on some processors.
// S is the type of states and of what is kept for the backward pass, E the type of the numbers that are multiplied.
// Sums, norms and softmax are in float. "Packed" is how a product wants its right side: for bfloat16 two rows at a time.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace {

using at::Tensor;
using bf16 = uint16_t;  // the bits of one: loops over plain numbers are vectorised more surely than over objects

constexpr int64_t PANEL = 64;       // columns of a right side that lie together
constexpr int64_t LANES = 16;       // numbers that loops go through at a time; rows of scores are a multiple long
constexpr int64_t FEW_ROWS = 128;   // rows of boards that go through a level together, as far as whole boards fit
constexpr int64_t MANY_ROWS = 384;  // the same where weights do not stay in the cache
constexpr int64_t LARGE = 256;      // channels from which on they do not
constexpr int64_t QUERIES = 64;     // queries that go through attention at a time

int64_t even(int64_t n) { return n + (n & 1); }
int64_t whole(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
int64_t panels(int64_t n) { return (n + PANEL - 1) / PANEL; }
int64_t panel_width(int64_t n, int64_t p) { return std::min(PANEL, n - p * PANEL); }

// ---- numbers ----

#define ALWAYS inline __attribute__((always_inline))  // a call within a loop keeps it from being vectorised

ALWAYS uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
ALWAYS float of_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
ALWAYS float widen(float x) { return x; }

ALWAYS float widen(bf16 x) {
  return of_bits(uint32_t(x) << 16);
}

template <class E>
E* numbers_of(const Tensor& t) {
  if constexpr (std::is_same_v<E, float>) return t.data_ptr<float>();
  else return reinterpret_cast<E*>(t.data_ptr<at::BFloat16>());
}

template <class E>
ALWAYS E narrow(float x) {
  if constexpr (std::is_same_v<E, float>) {
    return x;
  } else {  // to the nearest, ties to even
    const uint32_t bits = bits_of(x);
    return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

// e^x = 2^(whole + part), part in [-1/2, 1/2]; relative error below 3e-7. What is not a number stays none.
ALWAYS float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: added, it leaves a number's whole part in the lowest bits
  const float shifted = std::fma(x, 1.44269504f, magic), whole = shifted - magic;
  const float part = std::fma(x, 1.92596303e-8f, std::fma(x, 1.44269504f, -whole));
  float power = std::fma(part, 1.32764713e-3f, 9.67554096e-3f);
  power = std::fma(power, part, 5.55071309e-2f);
  power = std::fma(power, part, 2.40221202e-1f);
  power = std::fma(power, part, 6.93146944e-1f);
  power = std::fma(power, part, 1.00000012f);
  return of_bits(bits_of(power) + (bits_of(shifted) << 23));
}

// 1 / x for positive x: exactly rounded, or, where states are in bfloat16, within 1e-5 and without a division.
template <class S>
ALWAYS float reciprocal(float x) {
  if constexpr (std::is_same_v<S, float>) return 1.0f / x;
  float y = of_bits(0x7ef311c7 - bits_of(x));  // within 0.13
  y *= std::fma(-x, y, 2.0f);
  y *= std::fma(-x, y, 2.0f);
  return y * std::fma(-x, y, 2.0f);
}

// to = x + y.
template <class S>
inline void add(const S* __restrict x, const S* __restrict y, float* __restrict to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = widen(x[i]) + widen(y[i]);
}

template <class From, class To>
inline void convert(const From* __restrict from, To* __restrict to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = narrow<To>(widen(from[i]));
}

// Ask for numbers that will be read soon, so that they come from memory while something else is worked out.
template <class S>
inline void fetch(const S* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(S)) __builtin_prefetch(from + i);
}

// Visit a matrix in squares, so that both a row after row and a column after column order find it in the cache.
template <class Visit>
inline void in_squares(int64_t rows, int64_t columns, Visit visit) {
  for (int64_t top = 0; top < rows; top += LANES)
    for (int64_t left = 0; left < columns; left += LANES)
      for (int64_t r = top; r < std::min(rows, top + LANES); r++)
        for (int64_t c = left; c < std::min(columns, left + LANES); c++) visit(r, c);
}

// ---- memory ----

// Scratch numbers of one thread; what is taken lives as long as the scratch.
class Scratch {
 public:
  template <class E>
  E* take(int64_t count) {
    blocks_.emplace_back(new (std::align_val_t(64)) char[count * sizeof(E) + 64]());
    return reinterpret_cast<E*>(blocks_.back().get());
  }

 private:
  struct Free {
    void operator()(char* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::vector<std::unique_ptr<char[], Free>> blocks_;
};

// A right side of a product, K x N, in panels of 64 columns, packed.
template <class E>
struct Packed {
  int64_t rows, columns;
  const E* numbers;

  // Rows from `k` (even) on of panel `p`.
  const E* at(int64_t p, int64_t k = 0) const { return numbers + p * even(rows) * PANEL + k * PANEL; }
};

// ---- products ----

// How many rows a packed right side of `rows` rows has.
template <class E>
int64_t depth(int64_t rows) {
  return std::is_same_v<E, float> ? rows : even(rows);
}

// c (M x N) = or += a (M x K) b (packed K x N).
template <class E>
inline void multiply(
    int64_t M, int64_t N, int64_t K, const E* a, int64_t lda, const E* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  using Number = std::conditional_t<std::is_same_v<E, float>, float, at::BFloat16>;
  const auto *left = reinterpret_cast<const Number*>(a), *right = reinterpret_cast<const Number*>(b);
  at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, add, left, right, c, !std::is_same_v<E, float>);
}

// c (M x columns) = or += a b, for rows k … k + K - 1 of b.
template <class E>
inline void multiply(
    int64_t M, int64_t K, const E* a, int64_t lda, const Packed<E>& b, int64_t k, float* c, int64_t ldc, bool add) {
  for (int64_t p = 0; p < panels(b.columns); p++)
    multiply(M, panel_width(b.columns, p), K, a, lda, b.at(p, k), PANEL, c + p * PANEL, ldc, add);
}

// The left side of a product from floats: themselves, or narrowed.
template <class E>
inline const E* left(const float* from, int64_t count, E* space) {
  if constexpr (std::is_same_v<E, float>) return from;
  convert(from, space, count);
  return space;
}

// Pack (K x N) numbers that lie in rows `ld` apart; an odd last row gets a row of zeros beside it.
template <class From, class E>
inline void pack(const From* from, int64_t K, int64_t N, int64_t ld, E* to, int64_t ldb) {
  if constexpr (std::is_same_v<E, float>) {
    for (int64_t k = 0; k < K; k++) convert(from + k * ld, to + k * ldb, N);
  } else {
    for (int64_t k = 0; k < K; k += 2) {
      const From *first = from + k * ld, *second = first + ld;
      E* row = to + k * ldb;
      if (k + 1 < K) {
#pragma omp simd
        for (int64_t n = 0; n < N; n++) {
          row[2 * n] = narrow<E>(widen(first[n]));
          row[2 * n + 1] = narrow<E>(widen(second[n]));
        }
      } else {
        for (int64_t n = 0; n < N; n++) {
          row[2 * n] = narrow<E>(widen(first[n]));
          row[2 * n + 1] = E(0);
        }
      }
    }
  }
}

// Sixteen rows of sixteen numbers.
struct Square {
  typedef float Row __attribute__((vector_size(4 * LANES)));
  typedef int32_t Places __attribute__((vector_size(4 * LANES)));
  Row rows[LANES];

  // Transpose them, in registers: four times over, the upper and the lower half are shuffled into one another.
  void turn() {
    for (int step = 0; step < 4; step++) {
      Row next[LANES];
      for (int64_t i = 0; i < LANES / 2; i++) {
        const Row a = rows[i], b = rows[i + LANES / 2];
#ifdef __clang__
        next[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        next[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
        next[2 * i] = __builtin_shuffle(a, b, Places{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
        next[2 * i + 1] = __builtin_shuffle(a, b, Places{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
#endif
      }
      std::copy_n(next, LANES, rows);
    }
  }
};

// to (N x M, rows `ldt` apart) = the transpose of (M x N) numbers.
template <class From, class E>
inline void turned(const From* from, int64_t M, int64_t N, int64_t ld, E* to, int64_t ldt) {
  Square square;
  for (int64_t m = 0; m < M; m += LANES)
    for (int64_t n = 0; n < N; n += LANES) {
      const From* corner = from + m * ld + n;
      E* target = to + n * ldt + m;
      if (m + LANES <= M && n + LANES <= N) {
        for (int64_t i = 0; i < LANES; i++)
          for (int64_t j = 0; j < LANES; j++) square.rows[i][j] = widen(corner[i * ld + j]);
        square.turn();
        for (int64_t i = 0; i < LANES; i++)
          for (int64_t j = 0; j < LANES; j++) target[i * ldt + j] = narrow<E>(square.rows[i][j]);
      } else {
        for (int64_t i = 0; i < std::min(LANES, M - m); i++)
          for (int64_t j = 0; j < std::min(LANES, N - n); j++) target[j * ldt + i] = narrow<E>(widen(corner[i * ld + j]));
      }
    }
}

// Pack the transpose: element (k, n) of the right side is from[n * ld + k]; K is even for bfloat16. `space` holds N x K.
template <class From, class E>
inline void pack_transposed(const From* from, int64_t K, int64_t N, int64_t ld, E* to, int64_t ldb, E* space) {
  if constexpr (std::is_same_v<E, float>) {
    turned(from, N, K, ld, to, ldb);
  } else {  // two numbers at a time, as if they were one float
    for (int64_t n = 0; n < N; n++) convert(from + n * ld, space + n * K, K);
    turned(reinterpret_cast<const float*>(space), N, K / 2, K / 2, reinterpret_cast<float*>(to), ldb);
  }
}

// to (N x even(M)) = the transpose of (M x N) numbers, as a left side; an odd M gets a column of zeros.
template <class From, class E>
inline void transpose(const From* from, int64_t M, int64_t N, int64_t ld, E* to) {
  const int64_t wide = even(M);
  turned(from, M, N, ld, to, wide);
  if (wide > M)
    for (int64_t n = 0; n < N; n++) to[n * wide + M] = E(0);
}

// A weight (rows x columns) as a right side: itself for the backward pass, its transpose for the forward pass.
template <class E>
Tensor pack_panels(const float* from, int64_t rows, int64_t columns, bool backward) {
  const int64_t K = backward ? rows : columns, N = backward ? columns : rows, size = even(K) * PANEL;
  const auto type = std::is_same_v<E, float> ? at::kFloat : at::kBFloat16;
  Tensor result = at::empty({panels(N) * size}, at::TensorOptions().dtype(type));
  E* to = numbers_of<E>(result);
  at::parallel_for(0, panels(N), 1, [&](int64_t begin, int64_t end) {
    std::vector<E> space(PANEL * K);
    for (int64_t p = begin; p < end; p++) {
      const int64_t wide = panel_width(N, p);
      if (backward)
        pack(from + p * PANEL, K, wide, columns, to + p * size, PANEL);
      else
        pack_transposed(from + p * PANEL * columns, K, wide, columns, to + p * size, PANEL, space.data());
    }
  });
  return result;
}

// ---- what a level is ----

struct Shape {
  int64_t B, T, D, H, C, I, L;
  int64_t group;  // boards at a time
  int64_t tile;   // rows of a group that go through the MLP at a time
  float eps, scale;
  bool rotary;
};

template <class E>
struct Weights {
  Packed<E> qkv, out, gate_up, down;
};

// What a forward pass keeps of each block for the backward pass.
template <class S>
struct Kept {
  S *x, *qkv, *mixed, *middle, *gate_up;
  float *logs, *first, *second;  // log of the sum of exponentials; the factors of both norms

  Kept() = default;
  Kept(const std::vector<Tensor>& t)
      : x(numbers_of<S>(t[0])), qkv(numbers_of<S>(t[1])), mixed(numbers_of<S>(t[2])), middle(numbers_of<S>(t[3])),
        gate_up(numbers_of<S>(t[4])), logs(t[5].data_ptr<float>()), first(t[6].data_ptr<float>()),
        second(t[7].data_ptr<float>()) {}

  Kept of(const Shape& s, int64_t block, int64_t board) const {
    const int64_t at = (block * s.B + board) * s.T;
    Kept k;
    k.x = x + at * s.D, k.qkv = qkv + at * 3 * s.D, k.mixed = mixed + at * s.D, k.middle = middle + at * s.D;
    k.gate_up = gate_up + (block * s.B * 2 * s.I + board * PANEL) * s.T;  // a panel of all boards after the other
    k.logs = logs + at * s.H, k.first = first + at, k.second = second + at;
    return k;
  }
};

// x = (x + y) / rms(x + y), row by row; returns the factors where asked.
inline void add_norm(float* x, const float* y, int64_t rows, int64_t D, float eps, float* factors) {
  for (int64_t r = 0; r < rows; r++, x += D, y += D) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < D; i++) {
      x[i] += y[i];
      sum += x[i] * x[i];
    }
    const float factor = 1.0f / std::sqrt(sum / D + eps);
#pragma omp simd
    for (int64_t i = 0; i < D; i++) x[i] *= factor;
    if (factors) factors[r] = factor;
  }
}

// The gradient before a norm from the one behind it; y is what came out of the norm.
template <class S>
inline void norm_backward(const float* dy, const S* y, const float* factors, float* dx, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; r++, dy += D, y += D, dx += D) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < D; i++) sum += dy[i] * widen(y[i]);
    const float mean = sum / D, factor = factors[r];
#pragma omp simd
    for (int64_t i = 0; i < D; i++) dx[i] = factor * (dy[i] - widen(y[i]) * mean);
  }
}

// Turn the channels of a head, first half against second, by the angles of a position, which the tables hold for both
// halves. `back` turns the other way round.
inline void rotate(float* x, const float* cos, const float* sin, int64_t C, bool back) {
  const int64_t half = C / 2;
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    const float a = x[i], b = x[i + half], sine = back ? -sin[i] : sin[i];
    x[i] = a * cos[i] - b * sine;
    x[i + half] = b * cos[i] + a * sine;
  }
}

// to = silu(gate) up.
template <class S, class E>
inline void gated(const float* __restrict gate, const float* __restrict up, E* __restrict to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = narrow<E>(gate[i] * reciprocal<S>(1.0f + exponential(-gate[i])) * up[i]);
}

// `inner` is the gradient of silu(gate) up, and becomes that itself; the gradients of gate and up are written.
template <class S>
inline void gated_backward(
    const S* __restrict gate, const S* __restrict up, float* __restrict inner, float* __restrict dgate,
    float* __restrict dup, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    const float g = widen(gate[i]), u = widen(up[i]), d = inner[i];
    const float sigmoid = reciprocal<S>(1.0f + exponential(-g)), silu = g * sigmoid;
    inner[i] = silu * u;
    dgate[i] = d * u * sigmoid * (1.0f + g - silu);
    dup[i] = d * silu;
  }
}

// to = e^(scale (line - most)), summed.
inline float exponentials(const float* __restrict line, float most, float scale, float* __restrict to, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; i++) {
    to[i] = exponential(scale * (line[i] - most));
    sum += to[i];
  }
  return sum;
}

// Back through the softmax of one key for all queries: scores become weights, and their gradients those of the scores.
inline void weights_backward(
    float* __restrict scores, const float* __restrict logs, const float* __restrict dots, float scale,
    float* __restrict gradient, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) {
    scores[i] = exponential(scores[i] * scale - logs[i]);
    gradient[i] = scores[i] * (gradient[i] - dots[i]) * scale;
  }
}

template <class S, class E>
class Forward {
 public:
  Forward(const Shape& s, const std::vector<Weights<E>>& weights, const float* cos, const float* sin)
      : s(s), weights(weights), cos(cos), sin(sin), most(s.group * s.T), queries(std::min(QUERIES, s.T)),
        keys(whole(s.T)) {
    x = m.take<float>(most * s.D), qkv = m.take<float>(most * 3 * s.D), part = m.take<float>(s.tile * s.D);
    gate = m.take<float>(std::max(s.tile * PANEL, queries * s.C)), up = m.take<float>(s.tile * PANEL);
    scores = m.take<float>(queries * keys), shares = m.take<float>(queries * keys);
    std::fill_n(scores, queries * keys, -1e30f);  // behind the keys it stays so
    a = m.take<E>(most * s.D), q = m.take<E>(s.T * s.C), k = m.take<E>(s.C * keys), v = m.take<E>(keys * whole(s.C));
    p = m.take<E>(queries * keys), mixed = m.take<E>(most * s.D), inner = m.take<E>(s.tile * (s.I + 16));
    space = m.take<E>(s.T * s.C);
  }

  // Boards `board` … `board + boards - 1`; `kept` of all, or none. The first `wanted` positions of each are written.
  void group(
      const S* state, const S* injection, S* out, int64_t wanted, const Kept<S>* kept, int64_t board, int64_t boards) {
    const int64_t rows = boards * s.T, at = board * s.T * s.D;
    add(state + at, injection + at, x, rows * s.D);
    for (int64_t block = 0; block < s.L; block++) {
      Kept<S> own;
      if (kept) own = kept->of(s, block, board);
      const bool partly = wanted < s.T && block + 1 == s.L;
      attend(weights[block], kept ? &own : nullptr, boards, partly ? wanted : s.T);
      const int64_t length = partly ? s.T : rows, end = partly ? wanted : rows;  // of a board alone, or of all together
      for (int64_t first = 0; first < rows; first += length)
        for (int64_t row = 0; row < end; row += s.tile)
          rest(weights[block], first + row, std::min(s.tile, end - row), kept ? &own : nullptr);
    }
    for (int64_t n = 0; n < boards; n++)
      convert(x + n * s.T * s.D, out + (board + n) * wanted * s.D, wanted * s.D);
  }

 private:
  const Shape& s;
  const std::vector<Weights<E>>& weights;
  const float *cos, *sin;
  const int64_t most, queries, keys;
  Scratch m;
  float *x, *qkv, *part, *gate, *up, *scores, *shares;
  E *a, *q, *k, *v, *p, *mixed, *inner, *space;

  // The first `asking` positions of each board attend to all.
  void attend(const Weights<E>& w, const Kept<S>* kept, int64_t boards, int64_t asking) {
    const int64_t wide = 3 * s.D, rows = boards * s.T;
    if (kept) convert(x, kept->x, rows * s.D);
    const E* input = left(x, rows * s.D, a);
    for (int64_t row = 0; row < rows; row += s.tile)
      multiply(std::min(s.tile, rows - row), s.D, input + row * s.D, s.D, w.qkv, 0, qkv + row * wide, wide, false);
    if (s.rotary)
      for (int64_t row = 0; row < rows; row++) {
        const int64_t angle = row % s.T * s.C;
        for (int64_t h = 0; h < 2 * s.H; h++) rotate(qkv + row * wide + h * s.C, cos + angle, sin + angle, s.C, false);
      }
    if (kept) convert(qkv, kept->qkv, rows * wide);
    for (int64_t row = 0; row < rows; row += s.T)
      for (int64_t h = 0; h < s.H; h++) head(row, asking, h, kept ? kept->logs + row * s.H + h * s.T : nullptr);
    if (kept) convert(mixed, kept->mixed, rows * s.D);
  }

  // One head of the board whose rows begin at `first`.
  void head(int64_t first, int64_t asking, int64_t h, float* logs) {
    const int64_t wide = 3 * s.D, C = s.C;
    const float* own = qkv + first * wide + h * C;
    const E *asked, *told;
    int64_t lda = wide, ldb = wide;
    if constexpr (std::is_same_v<E, float>) {
      asked = own, told = own + 2 * s.D;
    } else {
      for (int64_t t = 0; t < s.T; t++) convert(own + t * wide, q + t * C, C);
      pack(own + 2 * s.D, s.T, C, wide, v, whole(C));
      asked = q, told = v, lda = C, ldb = whole(C);
    }
    pack_transposed(own + s.D, C, s.T, wide, k, keys, space);
    for (int64_t row = 0; row < asking; row += queries) {
      const int64_t rows = std::min(queries, asking - row);
      multiply(rows, s.T, C, asked + row * lda, lda, k, keys, scores, keys, false);
      float sums[QUERIES];
      for (int64_t r = 0; r < rows; r++) {
        float* line = scores + r * keys;
        float most = line[0];
#pragma omp simd reduction(max : most)
        for (int64_t t = 0; t < keys; t++) most = line[t] > most ? line[t] : most;
        const float sum = exponentials(line, most, s.scale, shares + r * keys, keys);
        sums[r] = 1.0f / sum;
        if (logs) logs[row + r] = s.scale * most + std::log(sum);
      }
      multiply(rows, C, depth<E>(s.T), left(shares, rows * keys, p), keys, told, ldb, gate, C, false);
      for (int64_t r = 0; r < rows; r++) {
        E* to = mixed + (first + row + r) * s.D + h * C;
#pragma omp simd
        for (int64_t i = 0; i < C; i++) to[i] = narrow<E>(gate[r * C + i] * sums[r]);
      }
    }
  }

  void rest(const Weights<E>& w, int64_t row, int64_t rows, const Kept<S>* kept) {
    const int64_t D = s.D, I = s.I, ld = I + 16;
    float* own = x + row * D;
    multiply(rows, D, mixed + row * D, D, w.out, 0, part, D, false);
    add_norm(own, part, rows, D, s.eps, kept ? kept->first + row : nullptr);
    if (kept) convert(own, kept->middle + row * D, rows * D);
    const E* input = left(own, rows * D, a);
    const int64_t half = panels(I);
    for (int64_t n = 0; n < half; n++) {
      multiply(rows, PANEL, D, input, D, w.gate_up.at(n), PANEL, gate, PANEL, false);
      multiply(rows, PANEL, D, input, D, w.gate_up.at(half + n), PANEL, up, PANEL, false);
      for (int64_t r = 0; r < rows; r++)
        gated<S>(gate + r * PANEL, up + r * PANEL, inner + r * ld + n * PANEL, PANEL);
      if (kept) {
        convert(gate, kept->gate_up + (n * s.B * s.T + row) * PANEL, rows * PANEL);
        convert(up, kept->gate_up + ((half + n) * s.B * s.T + row) * PANEL, rows * PANEL);
      }
    }
    multiply(rows, I, inner, ld, w.down, 0, part, D, false);
    add_norm(own, part, rows, D, s.eps, kept ? kept->second + row : nullptr);
  }
};

// Gradients of a block's weights, float, in panels of 64 columns: dW = l^T r, or its transpose, is summed over boards.
struct Sums {
  int64_t rows, columns;
  std::vector<float> numbers;

  Sums(int64_t rows, int64_t columns) : rows(rows), columns(columns), numbers(panels(columns) * rows * PANEL) {}

  float* at(int64_t p) { return numbers.data() + p * rows * PANEL; }

  // Element (row, column) goes to `to[row * r + column * c]`; `first` writes, else it is added.
  void unpack(float* to, int64_t r, int64_t c, bool first) const {
    for (int64_t p = 0; p < panels(columns); p++)
      in_squares(rows, panel_width(columns, p), [&](int64_t row, int64_t n) {
        float& place = to[row * r + (p * PANEL + n) * c];
        const float value = numbers[(p * rows + row) * PANEL + n];
        place = first ? value : place + value;
      });
  }
};

struct BlockSums {
  Sums qkv, out, gate_up, down;  // (D x 3D), (D x D), (D x 2I), (D x I); the first and the third are transposed
  explicit BlockSums(const Shape& s) : qkv(s.D, 3 * s.D), out(s.D, s.D), gate_up(s.D, 2 * s.I), down(s.D, s.I) {}
};

template <class S, class E>
class Backward {
 public:
  std::vector<BlockSums> sums;

  Backward(const Shape& s, const std::vector<Weights<E>>& weights, const float* cos, const float* sin)
      : s(s), weights(weights), cos(cos), sin(sin), most(s.group * s.T), queries(std::min(QUERIES, s.T)),
        high(even(s.tile)), broad(whole(queries)), keys(even(s.T)) {
    for (int64_t block = 0; block < s.L; block++) sums.emplace_back(s);
    dx = m.take<float>(most * s.D), dmixed = m.take<float>(most * s.D), dqkv = m.take<float>(most * 3 * s.D);
    dsum = m.take<float>(s.tile * s.D), dmiddle = m.take<float>(s.tile * s.D), gate = m.take<float>(s.tile * PANEL);
    up = m.take<float>(s.tile * PANEL), inner = m.take<float>(s.tile * PANEL), scores = m.take<float>(s.T * broad);
    dscores = m.take<float>(s.T * broad), dqueries = m.take<float>(s.C * broad);
    dots = m.take<float>(s.T + LANES), logs = m.take<float>(broad);
    a = m.take<E>(s.tile * 3 * s.D), b = m.take<E>(high * PANEL), t1 = m.take<E>(s.D * high);
    t2 = m.take<E>(s.D * high), e = m.take<E>(s.tile * PANEL), ka = m.take<E>(s.T * s.C), va = m.take<E>(s.T * s.C);
    kt = m.take<E>(s.C * keys), qt = m.take<E>(s.C * broad), gt = m.take<E>(s.C * broad), qb = m.take<E>(broad * whole(s.C));
    gb = m.take<E>(broad * whole(s.C)), pa = m.take<E>(s.T * broad), da = m.take<E>(s.T * broad), db = m.take<E>(keys * broad);
    space = m.take<E>(queries * s.C);
  }

  // Boards `board` … `board + boards - 1`.
  void group(const S* gradient, const S* out, S* result, const Kept<S>& kept, int64_t board, int64_t boards) {
    const int64_t rows = boards * s.T, at = board * s.T * s.D;
    convert(gradient + at, dx, rows * s.D);
    for (int64_t block = s.L - 1; block >= 0; block--) {
      const Kept<S> own = kept.of(s, block, board);
      const S* after = block + 1 < s.L ? kept.of(s, block + 1, board).x : out + at;
      for (int64_t row = 0; row < rows; row += s.tile)
        rest(weights[block], sums[block], own, after, row, std::min(s.tile, rows - row));
      for (int64_t row = 0; row < rows; row += s.T)
        for (int64_t h = 0; h < s.H; h++) head(own, row, h);
      for (int64_t row = 0; row < rows; row += s.tile)
        project(weights[block], sums[block], own, row, std::min(s.tile, rows - row));
    }
    convert(dx, result + at, rows * s.D);
  }

 private:
  const Shape& s;
  const std::vector<Weights<E>>& weights;
  const float *cos, *sin;
  const int64_t most, queries, high, broad, keys;
  Scratch m;
  float *dx, *dmixed, *dqkv, *dsum, *dmiddle, *gate, *up, *inner, *scores, *dscores, *dqueries, *dots, *logs;
  E *a, *b, *t1, *t2, *e, *ka, *va, *kt, *qt, *gt, *qb, *gb, *pa, *da, *db, *space;

  // Add left^T right to a panel of a weight's gradient; `turned` is the left side transposed, (D x even(rows)).
  void learn(Sums& to, int64_t p, const E* turned, const float* right, int64_t ld, int64_t rows) {
    const int64_t N = panel_width(to.columns, p);
    const E* packed;
    int64_t ldb = PANEL;
    if constexpr (std::is_same_v<E, float>) {
      packed = right, ldb = ld;
    } else {
      pack(right, rows, N, ld, b, PANEL);
      packed = b;
    }
    multiply(to.rows, N, depth<E>(rows), turned, even(rows), packed, ldb, to.at(p), PANEL, true);
  }

  // Back through the second norm, the MLP, the first norm and the map of the attention's output.
  void rest(const Weights<E>& w, BlockSums& g, const Kept<S>& kept, const S* after, int64_t row, int64_t rows) {
    const int64_t D = s.D, I = s.I, half = panels(I), at = row * D;
    norm_backward(dx + at, after + at, kept.second + row, dsum, rows, D);
    std::copy(dsum, dsum + rows * D, dmiddle);
    const E* dout = left(dsum, rows * D, a);
    transpose(dsum, rows, D, D, t1);
    transpose(kept.middle + at, rows, D, D, t2);
    const S *gates = kept.gate_up + row * PANEL, *ups = gates + half * s.B * s.T * PANEL;
    fetch(gates, rows * PANEL), fetch(ups, rows * PANEL);
    for (int64_t n = 0; n < half; n++) {
      const S *next_gates = gates + s.B * s.T * PANEL, *next_ups = ups + s.B * s.T * PANEL;
      if (n + 1 < half) fetch(next_gates, rows * PANEL), fetch(next_ups, rows * PANEL);
      multiply(rows, PANEL, D, dout, D, w.down.at(n), PANEL, inner, PANEL, false);
      gated_backward(gates, ups, inner, gate, up, rows * PANEL);
      learn(g.down, n, t1, inner, PANEL, rows);
      learn(g.gate_up, n, t2, gate, PANEL, rows);
      learn(g.gate_up, half + n, t2, up, PANEL, rows);
      multiply(rows, PANEL, left(gate, rows * PANEL, e), PANEL, w.gate_up, n * PANEL, dmiddle, D, true);
      multiply(rows, PANEL, left(up, rows * PANEL, e), PANEL, w.gate_up, I + n * PANEL, dmiddle, D, true);
      gates = next_gates, ups = next_ups;
    }
    norm_backward(dmiddle, kept.middle + at, kept.first + row, dx + at, rows, D);
    const E* dinput = left(dx + at, rows * D, a);
    transpose(dx + at, rows, D, D, t1);
    multiply(rows, D, dinput, D, w.out, 0, dmixed + at, D, false);
    for (int64_t n = 0; n < panels(D); n++) {
      for (int64_t r = 0; r < rows; r++)
        convert(kept.mixed + at + r * D + n * PANEL, inner + r * PANEL, panel_width(D, n));
      learn(g.out, n, t1, inner, PANEL, rows);
    }
  }

  // Back through one head of the board whose rows begin at `first`.
  void head(const Kept<S>& kept, int64_t first, int64_t h) {
    const int64_t wide = 3 * s.D, C = s.C, D = s.D, T = s.T;
    const S *q = kept.qkv + first * wide + h * C, *k = q + D, *v = k + D;
    for (int64_t t = 0; t < T; t++) {
      convert(k + t * wide, ka + t * C, C);
      convert(v + t * wide, va + t * C, C);
      float dot = 0;
      const float* dm = dmixed + (first + t) * D + h * C;
      const S* mixed = kept.mixed + (first + t) * D + h * C;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < C; i++) dot += dm[i] * widen(mixed[i]);
      dots[t] = dot;
    }
    transpose(k, T, C, wide, kt);
    for (int64_t row = 0; row < T; row += queries) {
      const int64_t rows = std::min(queries, T - row), deep = whole(rows);
      const S* own = q + row * wide;
      const float* dm = dmixed + (first + row) * D + h * C;
      std::copy_n(kept.logs + first * s.H + h * T + row, rows, logs);
      pack_transposed(own, C, rows, wide, qt, broad, space);
      pack_transposed(dm, C, rows, D, gt, broad, space);
      pack(own, rows, C, wide, qb, whole(C));
      pack(dm, rows, C, D, gb, whole(C));
      multiply(T, rows, C, ka, C, qt, broad, scores, deep, false);  // keys x queries, not scaled
      multiply(T, rows, C, va, C, gt, broad, dscores, deep, false);
      for (int64_t t = 0; t < T; t++)
        weights_backward(scores + t * deep, logs, dots + row, s.scale, dscores + t * deep, deep);
      const E *p = left(scores, T * deep, pa), *d = left(dscores, T * deep, da), *packed = d;
      if constexpr (!std::is_same_v<E, float>) {
        for (int64_t t = 0; t < T && rows % 2; t++) pa[t * deep + rows] = da[t * deep + rows] = E(0);
        pack(dscores, T, rows, deep, db, deep);
        packed = db;
      }
      float *dq = dqkv + (first + row) * wide + h * C, *dk = dqkv + first * wide + D + h * C, *dv = dk + D;
      multiply(T, C, depth<E>(rows), p, deep, gb, whole(C), dv, wide, row > 0);
      multiply(T, C, depth<E>(rows), d, deep, qb, whole(C), dk, wide, row > 0);
      multiply(C, rows, depth<E>(T), kt, keys, packed, deep, dqueries, rows, false);
      turned(dqueries, C, rows, rows, dq, wide);
    }
  }

  // Back through the rotation and the map to queries, keys and values.
  void project(const Weights<E>& w, BlockSums& g, const Kept<S>& kept, int64_t row, int64_t rows) {
    const int64_t wide = 3 * s.D;
    float* own = dqkv + row * wide;
    if (s.rotary)
      for (int64_t r = 0; r < rows; r++) {
        const int64_t angle = (row + r) % s.T * s.C;
        for (int64_t h = 0; h < 2 * s.H; h++) rotate(own + r * wide + h * s.C, cos + angle, sin + angle, s.C, true);
      }
    transpose(kept.x + row * s.D, rows, s.D, s.D, t1);
    for (int64_t n = 0; n < panels(wide); n++) learn(g.qkv, n, t1, own + n * PANEL, wide, rows);
    multiply(rows, wide, left(own, rows * wide, a), wide, w.qkv, 0, dx + row * s.D, s.D, true);
  }
};

// ---- what Python calls ----

Shape shape_of(
    const Tensor& state, const Tensor& cos, const std::vector<Tensor>& packed, int64_t inner, int64_t heads, double eps) {
  TORCH_CHECK(state.dim() == 3 && state.is_contiguous(), "expected contiguous states (B, T, D)");
  TORCH_CHECK(packed.size() % 4 == 0 && !packed.empty(), "expected four packed weights a block");
  Shape s;
  s.B = state.size(0), s.T = state.size(1), s.D = state.size(2), s.H = heads, s.C = s.D / heads;
  s.I = inner, s.L = int64_t(packed.size()) / 4;
  const int64_t rows = s.D < LARGE ? FEW_ROWS : MANY_ROWS;
  s.group = std::clamp<int64_t>(rows / s.T, 1, s.B), s.tile = std::min(s.group * s.T, rows);
  s.eps = float(eps), s.scale = 1.0f / std::sqrt(float(s.C)), s.rotary = cos.numel() > 0;
  TORCH_CHECK(s.C * heads == s.D && s.C % 2 == 0, "expected heads of an even width");
  TORCH_CHECK(s.I % PANEL == 0, "expected an inner width that is a multiple of 64");
  TORCH_CHECK(!s.rotary || (cos.size(0) >= s.T && cos.size(1) == s.C && cos.is_contiguous()), "expected tables (T, C)");
  return s;
}

// The packed weights of all blocks as right sides: of the forward pass (transposed), or of the backward pass.
template <class E>
std::vector<Weights<E>> weights_of(const Shape& s, const std::vector<Tensor>& packed, bool backward) {
  const int64_t rows[] = {3 * s.D, s.D, 2 * s.I, s.D}, columns[] = {s.D, s.D, s.D, s.I};
  std::vector<Weights<E>> result;
  for (int64_t i = 0; i < s.L; i++) {
    auto one = [&](int64_t j) {
      const int64_t K = backward ? rows[j] : columns[j], N = backward ? columns[j] : rows[j];
      const Tensor& t = packed[4 * i + j];
      TORCH_CHECK(t.numel() == panels(N) * even(K) * PANEL, "packed weights of other sizes");
      return Packed<E>{K, N, numbers_of<E>(t)};
    };
    result.push_back({one(0), one(1), one(2), one(3)});
  }
  return result;
}

template <class S, class E>
std::vector<Tensor> run_forward(
    const Shape& s, const Tensor& state, const Tensor& injection, const Tensor& cos, const Tensor& sin,
    const std::vector<Tensor>& packed, int64_t wanted, bool keep) {
  const auto weights = weights_of<E>(s, packed, false);
  std::vector<Tensor> result = {at::empty({s.B, wanted, s.D}, state.options())};
  if (keep) {
    const auto own = state.options(), wide = own.dtype(at::kFloat);
    const int64_t rows = s.L * s.B * s.T;
    for (int64_t width : {s.D, 3 * s.D, s.D, s.D, 2 * s.I}) result.push_back(at::empty({rows, width}, own));
    for (int64_t width : {s.H, int64_t(1), int64_t(1)}) result.push_back(at::empty({rows, width}, wide));
  }
  const Kept<S> kept = keep ? Kept<S>({result.begin() + 1, result.end()}) : Kept<S>();
  const S *x = numbers_of<S>(state), *y = numbers_of<S>(injection);
  S* out = numbers_of<S>(result[0]);
  at::parallel_for(0, s.B, 1, [&](int64_t begin, int64_t end) {
    Forward<S, E> pass(s, weights, cos.data_ptr<float>(), sin.data_ptr<float>());
    for (int64_t n = begin; n < end; n += s.group)
      pass.group(x, y, out, wanted, keep ? &kept : nullptr, n, std::min(s.group, end - n));
    at::native::cpublas::brgemm_release(!std::is_same_v<E, float>);
  });
  return result;
}

template <class S, class E>
std::vector<Tensor> run_backward(
    const Shape& s, const Tensor& gradient, const std::vector<Tensor>& saved, const Tensor& cos, const Tensor& sin,
    const std::vector<Tensor>& packed) {
  const auto weights = weights_of<E>(s, packed, true);
  const Kept<S> kept({saved.begin() + 1, saved.end()});
  std::vector<Tensor> result = {at::empty_like(gradient)};
  const auto wide = gradient.options().dtype(at::kFloat);
  for (int64_t i = 0; i < s.L; i++)
    for (auto& shape : std::vector<std::vector<int64_t>>{{3 * s.D, s.D}, {s.D, s.D}, {2 * s.I, s.D}, {s.D, s.I}})
      result.push_back(at::empty(shape, wide));
  const S *g = numbers_of<S>(gradient), *out = numbers_of<S>(saved[0]);
  S* dx = numbers_of<S>(result[0]);
  std::vector<std::unique_ptr<Backward<S, E>>> passes(at::get_num_threads());
  at::parallel_for(0, s.B, 1, [&](int64_t begin, int64_t end) {
    auto& pass = passes[at::get_thread_num()];
    pass = std::make_unique<Backward<S, E>>(s, weights, cos.data_ptr<float>(), sin.data_ptr<float>());
    for (int64_t n = begin; n < end; n += s.group) pass->group(g, out, dx, kept, n, std::min(s.group, end - n));
    at::native::cpublas::brgemm_release(!std::is_same_v<E, float>);
  });
  bool first = true;
  for (const auto& pass : passes) {
    if (!pass) continue;
    for (int64_t i = 0; i < s.L; i++) {
      const BlockSums& sum = pass->sums[i];
      auto to = [&](int64_t j) { return result[1 + 4 * i + j].template data_ptr<float>(); };
      sum.qkv.unpack(to(0), 1, s.D, first), sum.out.unpack(to(1), s.D, 1, first);
      sum.gate_up.unpack(to(2), 1, s.D, first), sum.down.unpack(to(3), s.I, 1, first);
    }
    first = false;
  }
  return result;
}

std::vector<Tensor> pack_weights(const std::vector<Tensor>& weights, bool backward, bool narrow) {
  std::vector<Tensor> result;
  for (const Tensor& w : weights) {
    TORCH_CHECK(w.scalar_type() == at::kFloat && w.is_contiguous() && w.dim() == 2, "expected contiguous float matrices");
    const float* from = w.data_ptr<float>();
    const int64_t rows = w.size(0), columns = w.size(1);
    TORCH_CHECK(rows % 2 == 0 && columns % 2 == 0, "expected even widths");
    result.push_back(
        narrow ? pack_panels<bf16>(from, rows, columns, backward) : pack_panels<float>(from, rows, columns, backward));
  }
  return result;
}

std::vector<Tensor> forward(
    const Tensor& state, const Tensor& injection, const Tensor& cos, const Tensor& sin,
    const std::vector<Tensor>& packed, int64_t inner, int64_t heads, double eps, int64_t wanted, bool keep) {
  const Shape s = shape_of(state, cos, packed, inner, heads, eps);
  TORCH_CHECK(0 < wanted && wanted <= s.T && (wanted == s.T || !keep), "expected some positions, or all to keep them");
  TORCH_CHECK(injection.sizes() == state.sizes() && injection.is_contiguous(), "expected an injection like the state");
  TORCH_CHECK(injection.scalar_type() == state.scalar_type(), "expected an injection like the state");
  const bool narrow = packed[0].scalar_type() == at::kBFloat16;
  if (state.scalar_type() == at::kFloat)
    return run_forward<float, float>(s, state, injection, cos, sin, packed, wanted, keep);
  TORCH_CHECK(state.scalar_type() == at::kBFloat16, "expected states in float or bfloat16");
  if (narrow) return run_forward<bf16, bf16>(s, state, injection, cos, sin, packed, wanted, keep);
  return run_forward<bf16, float>(s, state, injection, cos, sin, packed, wanted, keep);
}

std::vector<Tensor> backward(
    const Tensor& gradient, const std::vector<Tensor>& saved, const Tensor& cos, const Tensor& sin,
    const std::vector<Tensor>& packed, int64_t inner, int64_t heads, double eps) {
  const Shape s = shape_of(gradient, cos, packed, inner, heads, eps);
  const bool narrow = packed[0].scalar_type() == at::kBFloat16;
  if (gradient.scalar_type() == at::kFloat)
    return run_backward<float, float>(s, gradient, saved, cos, sin, packed);
  TORCH_CHECK(gradient.scalar_type() == at::kBFloat16, "expected gradients in float or bfloat16");
  if (narrow) return run_backward<bf16, bf16>(s, gradient, saved, cos, sin, packed);
  return run_backward<bf16, float>(s, gradient, saved, cos, sin, packed);
}

}  // namespace

TORCH_LIBRARY(hrm_gym, m) {
  m.def("level_pack(Tensor[] weights, bool backward, bool narrow) -> Tensor[]", &pack_weights);
  m.def(
      "level_forward(Tensor state, Tensor injection, Tensor cos, Tensor sin, Tensor[] packed, int inner, int heads, "
      "float eps, int wanted, bool keep) -> Tensor[]",
      &forward);
  m.def(
      "level_backward(Tensor gradient, Tensor[] saved, Tensor cos, Tensor sin, Tensor[] packed, int inner, int heads, "
      "float eps) -> Tensor[]",
      &backward);
}

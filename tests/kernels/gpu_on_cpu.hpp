// What a CUDA source needs to run on a CPU: blocks one after the other, the threads of each as fibers.
//
// A thread runs until it waits for its block or its warp, and the next is drawn at random, as are blocks: what relies on
// an order that CUDA does not promise gives other results here too. Waiting that never ends, and warps that exchange
// numbers with lanes that have left, are faults. Shared memory keeps what the block before left in it.

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct dim3 { unsigned x, y, z; };
dim3 blockIdx, blockDim, gridDim, threadIdx;  // not static: read anew after every wait
static const int warpSize = 32;

namespace gpu {
enum State { READY, BLOCK, WARP, LEFT };
struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool begun;
    State state;
};
static const size_t STACK = 1 << 16;
static std::vector<Fiber> fibers;
static std::function<void()> kernel;
static jmp_buf scheduler;
int current;  // number of the running thread in its block
static unsigned seed = 1, epoch, tallies[2];
static unsigned char turns[1024];
static unsigned long long slots[2][1024];

static unsigned drawn(unsigned below) {
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return seed % below;
}

static void shuffle(std::vector<long long>& numbers) {
    for (size_t i = numbers.size(); i > 1; i--) std::swap(numbers[i - 1], numbers[drawn((unsigned)i)]);
}

__attribute__((noinline)) static void pause(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    if (!_setjmp(fiber.place)) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        kernel();
        pause(LEFT);
    }
}

__attribute__((noinline)) static void resume(int number) {
    current = number;
    threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y)};
    if (_setjmp(scheduler)) return;
    Fiber& fiber = fibers[number];
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.start);
}

// Lets go whom everybody waits with: warps that are complete, else the block. Tells what is wrong if nobody can.
static const char* release() {
    int threads = (int)fibers.size();
    bool any = false, all = true;
    for (int first = 0; first < threads; first += warpSize) {
        int last = std::min(first + warpSize, threads), waiting = 0, left = 0;
        for (int i = first; i < last; i++) waiting += fibers[i].state == WARP, left += fibers[i].state == LEFT;
        if (waiting && left) return "A warp waits for lanes that have left.";
        if (waiting) all = false;
        if (waiting < last - first) continue;
        any = true;
        for (int i = first; i < last; i++) fibers[i].state = READY;
    }
    if (any) return nullptr;
    if (!all) return "Some lanes of a warp wait for each other, and others for the block.";
    tallies[++epoch & 1] = 0;
    for (Fiber& fiber : fibers)
        if (fiber.state == BLOCK) fiber.state = READY;
    return nullptr;
}

// While one lives, numbers next to 0 are taken for 0, as CuPy has float32 compiled.
struct Flushing {
    unsigned before = _mm_getcsr();
    Flushing() { _mm_setcsr(before | 0x8040); }
    ~Flushing() { _mm_setcsr(before); }
};

static const char* launch(const int* grid, const int* block, std::function<void()> given) {
    static char* stacks = (char*)mmap(nullptr, 1024 * STACK, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]};
    blockDim = {(unsigned)block[0], (unsigned)block[1], (unsigned)block[2]};
    long long threads = (long long)block[0] * block[1] * block[2], count = (long long)grid[0] * grid[1] * grid[2];
    if (threads < 1 || threads > 1024) return "A block has 1 to 1,024 threads.";
    if (count < 1 || grid[1] > 65535 || grid[2] > 65535) return "A grid has 1 to 65,535 blocks along its second and third side.";
    Flushing flushing;  // contexts remember it
    kernel = given;
    std::memset(turns, 0, sizeof turns);
    fibers = std::vector<Fiber>(threads);
    for (int i = 0; i < threads; i++) {
        getcontext(&fibers[i].start);
        fibers[i].start.uc_stack.ss_sp = stacks + i * STACK;
        fibers[i].start.uc_stack.ss_size = STACK;
        fibers[i].start.uc_link = nullptr;
        makecontext(&fibers[i].start, live, 0);
    }
    std::vector<long long> blocks(count), order(threads);
    for (long long i = 0; i < count; i++) blocks[i] = i;
    for (long long i = 0; i < threads; i++) order[i] = i;
    shuffle(blocks);
    shuffle(order);
    for (long long number : blocks) {
        blockIdx = {(unsigned)(number % grid[0]), (unsigned)(number / grid[0] % grid[1]),
            (unsigned)(number / ((long long)grid[0] * grid[1]))};
        for (Fiber& fiber : fibers) fiber.state = READY;
        for (bool more = true; more;) {
            for (long long i : order)
                if (fibers[i].state == READY) resume((int)i);
            more = std::any_of(fibers.begin(), fibers.end(), [](Fiber& one) { return one.state != LEFT; });
            if (!more) break;
            if (const char* wrong = release()) return wrong;
            shuffle(order);
        }
    }
    return nullptr;
}

// What every lane of the warp gives, once all are here; until two exchanges later.
static const unsigned long long* all_of_warp(unsigned long long bits) {
    int me = current, turn = turns[me] ^= 1;
    slots[turn][me] = bits;
    pause(WARP);
    return slots[turn] + (me & ~(warpSize - 1));
}

template <class T> static T exchanged(T value, int other) {
    unsigned long long bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = all_of_warp(bits)[other];
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
}  // namespace gpu

static void __syncthreads() { gpu::pause(gpu::BLOCK); }
static int __syncthreads_count(int yes) {
    gpu::tallies[gpu::epoch & 1] += yes != 0;
    unsigned here = gpu::epoch & 1;
    gpu::pause(gpu::BLOCK);
    return (int)gpu::tallies[here];
}
static void __syncwarp() { gpu::pause(gpu::WARP); }
static void __threadfence() {}
template <class T> static T __shfl_xor_sync(unsigned, T value, int mask) {
    return gpu::exchanged(value, (gpu::current & (warpSize - 1)) ^ mask);
}
template <class T> static T __shfl_sync(unsigned, T value, int lane) {
    return gpu::exchanged(value, lane & (warpSize - 1));
}
template <class T> static T __shfl_up_sync(unsigned, T value, unsigned by) {
    int lane = gpu::current & (warpSize - 1);
    return gpu::exchanged(value, lane < (int)by ? lane : lane - (int)by);
}
static unsigned __ballot_sync(unsigned, int yes) {
    const unsigned long long* warp = gpu::all_of_warp(yes != 0);
    unsigned found = 0;
    for (int lane = 0; lane < warpSize; lane++) found |= (unsigned)warp[lane] << lane;
    return found;
}
static int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
static unsigned __match_any_sync(unsigned, int value) {
    const unsigned long long* warp = gpu::all_of_warp((unsigned)value);
    unsigned found = 0;
    for (int lane = 0; lane < warpSize; lane++) found |= (unsigned)(warp[lane] == (unsigned)value) << lane;
    return found;
}
static int __reduce_add_sync(unsigned, int value) {
    for (int by = 16; by; by /= 2) value += __shfl_xor_sync(0xffffffffu, value, by);
    return value;
}
static int __reduce_min_sync(unsigned, int value) {
    for (int by = 16; by; by /= 2) value = std::min(value, __shfl_xor_sync(0xffffffffu, value, by));
    return value;
}
struct alignas(16) int4 { int x, y, z, w; };
template <class T> static T __ldcg(const T* where) { return *where; }
template <class T> static T atomicAdd(T* where, T what) { T before = *where; *where += what; return before; }
template <class T> static T atomicMin(T* where, T what) { T before = *where; *where = std::min(before, what); return before; }
template <class T> static T atomicMax(T* where, T what) { T before = *where; *where = std::max(before, what); return before; }
template <class T> static T min(T a, T b) { return b < a ? b : a; }
template <class T> static T max(T a, T b) { return a < b ? b : a; }
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
static unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    for (int i = 0; i < 32; i += 8) sum += ((a >> i) & 255) * ((b >> i) & 255);
    return sum;
}
static double __dadd_rn(double a, double b) { return a + b; }
static double __dsub_rn(double a, double b) { return a - b; }
static double __dmul_rn(double a, double b) { return a * b; }
static double __ddiv_rn(double a, double b) { return a / b; }
static double __dsqrt_rn(double a) { return std::sqrt(a); }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fsub_rn(float a, float b) { return a - b; }
static unsigned __float_as_uint(float a) { unsigned bits; std::memcpy(&bits, &a, 4); return bits; }
static float __uint_as_float(unsigned bits) { float a; std::memcpy(&a, &bits, 4); return a; }

// What sources say in PTX on a GPU.

static float of_half(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return (float)value;
}

static double wide(float value) {  // of any, those next to 0 too
    unsigned bits = __float_as_uint(value), size = bits & 0x7fffffffu;
    double found = size < 0x800000u ? size * 0x1p-149 : std::fabs((double)value);
    return bits >> 31 ? -found : found;
}

static unsigned rounded_to_tf32(unsigned word) { return (word + 0x1000u) & 0xffffe000u; }

namespace gpu {
struct Fragments { unsigned left[4], right[2]; };
static Fragments fragments[2][1024];

static float number(const unsigned* words, int at, bool halves) {
    return halves ? of_half((unsigned short)(words[0] >> (at * 16))) : __uint_as_float(words[0]);
}

// Tables of mma.sync in the manual of PTX: rows of the left, columns of the right and of the sums by lane / 4; a word
// of k by lane % 4, and 4 further.
static void multiply(float* sums, const unsigned* left, const unsigned* right, bool halves) {
    int me = current, turn = turns[me] ^= 1, lane = me % warpSize;
    std::memcpy(fragments[turn][me].left, left, sizeof fragments[turn][me].left);
    std::memcpy(fragments[turn][me].right, right, sizeof fragments[turn][me].right);
    pause(WARP);
    const Fragments* warp = fragments[turn] + (me - lane);
    for (int e = 0; e < 4; e++) {
        int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        for (int word = 0; word < 8; word++)
            for (int at = 0; at < (halves ? 2 : 1); at++)
                sums[e] += number(warp[row % 8 * 4 + word % 4].left + row / 8 + word / 4 * 2, at, halves)
                    * number(warp[column * 4 + word % 4].right + word / 4, at, halves);
    }
}
}  // namespace gpu

static void multiply_halves(float* sums, const unsigned* left, const unsigned* right) {
    gpu::multiply(sums, left, right, true);
}
static void multiply_tf32(float* sums, const unsigned* left, const unsigned* right) {
    gpu::multiply(sums, left, right, false);
}

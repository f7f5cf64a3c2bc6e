"""In CUDA, for the sources of others: the k-th lowest key, found digit by digit of its bits."""

SOURCE = r"""
#define ALL 0xffffffffu

// A float's bits, ordered as floats are.
__device__ static unsigned ordered(unsigned bits) {
    return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}

// The digit of a key is counted if those above it are known; a warp counts equal ones at once.
template <class Key>
__device__ static void count_digit(int* tallies, Key key, bool there, Key known, int shift) {
    const bool counts = there && (shift + 8 == 8 * (int)sizeof(Key) || key >> (shift + 8) == known >> (shift + 8));
    if (!__any_sync(ALL, counts)) return;
    const int digit = counts ? (int)(key >> shift & 255) : -1;
    const unsigned same = __match_any_sync(ALL, digit);
    if (counts && !(same & ((1u << threadIdx.x % 32) - 1u))) atomicAdd(tallies + digit, __popc(same));
}

// The k-th lowest of the keys that key_of(i, key) sets for i below span, where it is true. All threads of a block,
// whole warps, call it and get the answer. False: there are fewer than k. A thread keeps the first HELD of its keys,
// others are asked for again for every digit.
template <class Key, int HELD, class Of>
__device__ static bool kth_lowest(const Of& key_of, int span, int k, Key& found) {
    __shared__ int tallies[256], rank;
    __shared__ Key prefix;
    const int t = threadIdx.x;
    Key held[HELD > 0 ? HELD : 1];
    unsigned there = 0;
    #pragma unroll
    for (int n = 0; n < HELD; n++) {
        held[n] = 0;
        const long long i = (long long)n * blockDim.x + t;
        if (i < span && key_of((int)i, held[n])) there |= 1u << n;
    }
    if (t == 0) {
        rank = k;
        prefix = 0;
    }
    for (int shift = 8 * (int)sizeof(Key) - 8; shift >= 0; shift -= 8) {
        for (int i = t; i < 256; i += blockDim.x) tallies[i] = 0;
        __syncthreads();
        const Key known = prefix;
        #pragma unroll
        for (int n = 0; n < HELD; n++) count_digit(tallies, held[n], there >> n & 1, known, shift);
        for (long long first = (long long)HELD * blockDim.x; first < span; first += blockDim.x) {
            Key key = 0;
            const bool one = first + t < span && key_of((int)(first + t), key);
            count_digit(tallies, key, one, known, shift);
        }
        __syncthreads();
        if (t < 32) {  // eight digits each
            int mine = 0;
            for (int i = 8 * t; i < 8 * t + 8; i++) mine += tallies[i];
            int upto = mine;
            for (int by = 1; by < 32; by *= 2) {
                const int lower = __shfl_up_sync(ALL, upto, by);
                if (t >= by) upto += lower;
            }
            int before = upto - mine, digit = 8 * t;
            const int wanted = rank;
            __syncwarp();
            if (before < wanted && wanted <= upto) {
                while (before + tallies[digit] < wanted) before += tallies[digit++];
                prefix = known | (Key)digit << shift;
                rank = wanted - before;
            }
            if (t == 31 && upto < wanted) rank = 0;
        }
        __syncthreads();
        if (rank == 0) break;
    }
    found = prefix;
    const bool enough = rank > 0;
    __syncthreads();  // another call may begin
    return enough;
}
"""

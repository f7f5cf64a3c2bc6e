"""In CUDA, for the sources of others: the k-th lowest key, found digit by digit of its bits."""

SOURCE = r"""
#define ALL 0xffffffffu

// A float's bits, ordered as floats are.
__device__ static unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}

// The k-th lowest of the keys that key_of(i, key) sets for i below span, where it is true; all bits from the lowest
// digit's shift on, those below are 1. All threads of a block call it, whole warps, and all get the answer. False:
// there are fewer than k.
template <class Key, class Of>
__device__ static bool kth_lowest(const Of& key_of, int span, int k, int lowest_shift, Key& found) {
    __shared__ int tallies[256], rank;
    __shared__ Key prefix;
    const int t = threadIdx.x, highest_shift = 8 * (int)sizeof(Key) - 8;
    if (t == 0) {
        rank = k;
        prefix = 0;
    }
    for (int shift = highest_shift; shift >= lowest_shift; shift -= 8) {
        for (int i = t; i < 256; i += blockDim.x) tallies[i] = 0;
        __syncthreads();
        const Key known = prefix;
        for (int first = 0; first < span; first += blockDim.x) {
            Key key;
            int digit = -1;
            if (first + t < span && key_of(first + t, key)
                    && (shift == highest_shift || key >> (shift + 8) == known >> (shift + 8)))
                digit = (int)(key >> shift & 255);
            const unsigned same = __match_any_sync(ALL, digit);
            if (digit >= 0 && !(same & ((1u << t % 32) - 1u))) atomicAdd(tallies + digit, __popc(same));
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
        if (rank == 0) return false;
    }
    found = prefix | (((Key)1 << lowest_shift) - 1);
    return true;
}
"""

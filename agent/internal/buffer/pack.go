package buffer

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Both are built once; each call is on its own.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	unpacker = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err)
		}
		return d
	})
)

func pack(lines []byte) []byte {
	z := packer().EncodeAll(lines, make([]byte, 0, len(lines)/8+64))
	return append(make([]byte, 0, len(z)), z...)
}

func unpack(z []byte, size int) ([]byte, error) {
	return unpacker().DecodeAll(z, make([]byte, 0, size))
}

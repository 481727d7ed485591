package buffer

import (
	"bytes"
	"fmt"
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

var scratch struct {
	sync.Mutex
	z []byte
}

// pack compresses lines, which nobody may use any more, and keeps their room for others.
func pack(lines []byte) []byte {
	scratch.Lock()
	defer scratch.Unlock()
	scratch.z = packer().EncodeAll(lines, scratch.z[:0])
	z := bytes.Clone(scratch.z)
	select {
	case spare <- lines[:0]:
	default:
	}
	return z
}

// spare is room for lines that is used again: under load, new room would be most of what the agent allocates.
var spare = make(chan []byte, 2)

// newLines returns room for lines, at least so much if it is not used again.
func newLines(room int) []byte {
	select {
	case lines := <-spare:
		return lines
	default:
		return make([]byte, 0, room)
	}
}

func unpack(z []byte, size int) ([]byte, error) {
	return unpacker().DecodeAll(z, make([]byte, 0, size))
}

const (
	chunkBytes  = 1 << 20
	chunkRoom   = chunkBytes + chunkBytes/8
	aboutPacked = 8 // how much smaller lines become, before one knows
)

// Chunk is lines of one class of a segment that are compressed as one.
type Chunk struct {
	lines []byte // nil when packed
	z     []byte
	size  int // of the lines
}

// Size is the length of the lines.
func (k *Chunk) Size() int { return k.size }

// Pack compresses the lines.
func (k *Chunk) Pack() {
	k.z = pack(k.lines)
	k.lines = nil
}

func (k *Chunk) packed() bool { return k.z != nil }

func (k *Chunk) text() ([]byte, error) {
	if !k.packed() {
		return k.lines, nil
	}
	lines, err := unpack(k.z, k.size)
	if err != nil {
		return nil, fmt.Errorf("unpack rows: %w", err)
	}
	return lines, nil
}

func (k *Chunk) wire() int {
	if k.packed() {
		return len(k.z)
	}
	return k.size / aboutPacked
}

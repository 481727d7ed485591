package agent

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/paths"
)

// modelKernel behaves as the programs do: it counts, numbers, loses, and puts samples into a ring, also between a
// snapshot and the look at the ring's end.
type modelKernel struct {
	random   *rand.Rand
	cpus     account.Snapshot
	samples  [][]byte
	consumed uint64
	longest  int
	unquiet  int // how many snapshots will find no quiet moment
	windows  []modelWindow
}

// modelWindow is an open window: its slot, and what its first row said.
type modelWindow struct {
	cpu       int
	first     uint64
	count     uint64
	operation decode.Operation
}

const modelWindows = 8 // a CPU

// repeat counts one more occurrence in a window, or closes it.
func (k *modelKernel) repeat(slot int) {
	w := &k.windows[slot]
	c := &k.cpus[w.cpu]
	if k.random.IntN(4) > 0 {
		c.Seen++
		c.Pending++
		w.count++
		return
	}
	k.closeWindow(slot)
}

func (k *modelKernel) closeWindow(slot int) {
	w := &k.windows[slot]
	c := &k.cpus[w.cpu]
	if w.count > 0 {
		raw := sample(uint32(w.cpu), c.NextSeq, w.operation, uint32(w.count), nil)
		binary.LittleEndian.PutUint64(raw[24:], w.first)
		binary.LittleEndian.PutUint32(raw[124:], uint32(slot+1))
		binary.LittleEndian.PutUint16(raw[134:], decode.HasRest)
		raw[128] = paths.String | paths.Unread
		k.samples = append(k.samples, raw)
		c.NextSeq++
		c.Pending -= w.count
	}
	*w = modelWindow{}
}

func (k *modelKernel) Sweep() error {
	if k.windows == nil {
		k.windows = make([]modelWindow, k.Windows())
	}
	k.closeWindow(k.random.IntN(len(k.windows)))
	return nil
}

func (k *modelKernel) Windows() int { return len(k.cpus) * modelWindows }

func (k *modelKernel) happen(n int) {
	for range n {
		cpu := k.random.IntN(len(k.cpus))
		c := &k.cpus[cpu]
		count := uint64(1)
		if k.random.IntN(10) == 0 {
			count += uint64(k.random.IntN(5))
		}
		c.Seen += count
		switch k.random.IntN(20) {
		case 0, 1, 2:
			c.Filtered += count
			continue
		case 3:
			c.NextSeq++
			c.Ring.Add(account.Tally{Rows: 1, Events: count})
			continue
		case 4:
			c.NextSeq++
			c.Scratch.Add(account.Tally{Rows: 1, Events: count})
			continue
		}
		if len(k.windows) > 0 && k.random.IntN(3) == 0 {
			slot := k.random.IntN(len(k.windows))
			if c.Seen -= count; k.windows[slot].operation != 0 {
				k.repeat(slot)
			}
			continue
		}
		operation := decode.Operation(1 + k.random.IntN(int(decode.MmapWrite)))
		name := make([]byte, 1+k.random.IntN(k.longest))
		for i := range name {
			name[i] = byte(1 + k.random.IntN(255))
		}
		name = append(bytes.ReplaceAll(name, []byte{'/'}, []byte{'.'}), '/')
		raw := sample(uint32(cpu), c.NextSeq, operation, uint32(count), name)
		if len(k.windows) > 0 && k.random.IntN(3) == 0 {
			slot := cpu*modelWindows + k.random.IntN(modelWindows)
			k.closeWindow(slot)
			binary.LittleEndian.PutUint64(raw, c.NextSeq)
			binary.LittleEndian.PutUint32(raw[124:], uint32(slot+1))
			k.windows[slot] = modelWindow{cpu: cpu, first: c.NextSeq, operation: operation}
		}
		k.samples = append(k.samples, raw)
		c.NextSeq++
	}
}

func sample(cpu uint32, seq uint64, operation decode.Operation, count uint32, path []byte) []byte {
	raw := make([]byte, decode.Size, decode.Size+len(path))
	binary.LittleEndian.PutUint64(raw[0:], seq)
	binary.LittleEndian.PutUint32(raw[64:], cpu)
	binary.LittleEndian.PutUint32(raw[68:], 42)
	binary.LittleEndian.PutUint32(raw[120:], count)
	binary.LittleEndian.PutUint16(raw[132:], uint16(operation))
	binary.LittleEndian.PutUint16(raw[136:], uint16(len(path)))
	copy(raw[144:], "model")
	return append(raw, path...)
}

func (k *modelKernel) Snapshot() (account.Snapshot, bool) {
	if k.unquiet > 0 {
		k.unquiet--
		return nil, false
	}
	now := append(account.Snapshot(nil), k.cpus...)
	k.happen(k.random.IntN(30))
	return now, true
}

func (k *modelKernel) Begin() uint64 { return k.consumed }

func (k *modelKernel) End() uint64 { return k.consumed + uint64(len(k.samples)) }

func (k *modelKernel) Read(end uint64, f func([]byte)) bool {
	for k.consumed < end {
		one := k.samples[0]
		k.samples, k.consumed = k.samples[1:], k.consumed+1
		f(one)
	}
	return true
}

func (k *modelKernel) Wait(int) error { return nil }

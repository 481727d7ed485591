package agent

import (
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/decode"
)

// classOf says how dear a row is when the buffer is full.
func classOf(r *decode.Record) buffer.Class {
	switch r.Operation {
	case decode.Open:
		return buffer.Opens
	case decode.Write, decode.MmapWrite:
		return buffer.Writes
	case decode.Rename, decode.Delete, decode.Chmod:
		return buffer.Dearest
	}
	return buffer.Rest
}

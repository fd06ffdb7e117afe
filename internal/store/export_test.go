package store

// CapLog makes stores opened from now on cut their log at so many bytes; restore undoes that.
func CapLog(bytes int64) (restore func()) {
	was := walCap
	walCap = bytes
	return func() { walCap = was }
}

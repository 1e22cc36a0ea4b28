package memory

// Forget loses every record.
func (d *Dedup) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = nil
}

// Len is the number of records, expired ones too.
func (d *Dedup) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.records)
}

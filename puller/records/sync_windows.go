package records

// syncDir does nothing, because Windows cannot sync a directory. NTFS writes renames into
// its journal.
func (d *Dir) syncDir(string) error { return nil }

package layout

// Errors of Plan 9 are texts of the file server, and it has no symbolic links.

var readOnlyNumbers []error

func needsWriting(error) bool { return false }

package layout

// Errors of Plan 9 are texts of the file server, and it has no symbolic links.

var readOnlyNumbers []error

func isLink(error) bool { return false }

func needsWriting(error) bool { return false }

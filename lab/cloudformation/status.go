package cloudformation

import "strings"

// Statuses of stacks; those of resources are of the first three kinds.
const (
	reviewInProgress         = "REVIEW_IN_PROGRESS"
	createInProgress         = "CREATE_IN_PROGRESS"
	createComplete           = "CREATE_COMPLETE"
	createFailed             = "CREATE_FAILED"
	updateInProgress         = "UPDATE_IN_PROGRESS"
	updateComplete           = "UPDATE_COMPLETE"
	updateFailed             = "UPDATE_FAILED"
	updateCleanup            = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
	rollbackInProgress       = "ROLLBACK_IN_PROGRESS"
	rollbackComplete         = "ROLLBACK_COMPLETE"
	rollbackFailed           = "ROLLBACK_FAILED"
	updateRollbackInProgress = "UPDATE_ROLLBACK_IN_PROGRESS"
	updateRollbackComplete   = "UPDATE_ROLLBACK_COMPLETE"
	updateRollbackFailed     = "UPDATE_ROLLBACK_FAILED"
	updateRollbackCleanup    = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
	deleteInProgress         = "DELETE_IN_PROGRESS"
	deleteComplete           = "DELETE_COMPLETE"
	deleteFailed             = "DELETE_FAILED"
	deleteSkipped            = "DELETE_SKIPPED"
	onFailureRollback        = "ROLLBACK"
	onFailureDelete          = "DELETE"
	onFailureNothing         = "DO_NOTHING"
	kindCreate               = "CREATE"
	kindUpdate               = "UPDATE"
	kindDelete               = "DELETE"
)

// busy tells whether something is under way.
func busy(status string) bool {
	return strings.HasSuffix(status, "_IN_PROGRESS") && status != reviewInProgress
}

// updatable are the statuses that a stack can be updated from.
var updatable = map[string]bool{
	createComplete: true, updateComplete: true, updateRollbackComplete: true, updateFailed: true, createFailed: true,
}

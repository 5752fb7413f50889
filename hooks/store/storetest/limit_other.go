//go:build !linux && !darwin

package storetest

import "errors"

const canLimitFiles = false

func limitFiles(int64) error { return errors.ErrUnsupported }

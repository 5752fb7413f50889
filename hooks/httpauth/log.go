package httpauth

// report tells of a question that has no answer.
func (s *Service) report(q *question, err error) {
	if more, ok := s.log.Take(); ok {
		s.o.Logger.Warn("httpauth: the service does not answer, which refuses", "ask", q.ask, "client", q.clientID, "error", err, "left out before", more)
	}
}

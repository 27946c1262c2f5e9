-- Any program may write tasks, and one odd row must not stop those who look after all: numbers and times with which
-- nobody can reckon, or which Python can't read, become ones that do.

CREATE FUNCTION bound_task() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first CONSTANT timestamptz := '1970-01-01 00:00+00';
    last CONSTANT timestamptz := '9000-01-01 00:00+00';
BEGIN
    NEW.attempt := least(greatest(NEW.attempt, 0), 1000000);
    NEW.attempts := least(greatest(NEW.attempts, 1), 1000000);
    NEW.created_at := least(greatest(NEW.created_at, first), last);
    NEW.not_before := least(greatest(NEW.not_before, first), last);
    -- These may be null, which neither greatest nor least keeps.
    NEW.claimed_at := CASE WHEN NEW.claimed_at BETWEEN first AND last THEN NEW.claimed_at END;
    NEW.published_at := CASE WHEN NEW.published_at BETWEEN first AND last THEN NEW.published_at END;
    NEW.finished_at := CASE WHEN NEW.finished_at BETWEEN first AND last THEN NEW.finished_at END;
    NEW.rank := CASE WHEN NEW.rank BETWEEN first - interval '1 day' AND last THEN NEW.rank END;
    RETURN NEW;
END
$$;
CREATE TRIGGER bound BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION bound_task();

UPDATE tasks SET attempt = attempt
WHERE attempt NOT BETWEEN 0 AND 1000000
    OR attempts NOT BETWEEN 1 AND 1000000
    OR created_at NOT BETWEEN '1970-01-01 00:00+00' AND '9000-01-01 00:00+00'
    OR not_before NOT BETWEEN '1970-01-01 00:00+00' AND '9000-01-01 00:00+00'
    OR claimed_at NOT BETWEEN '1970-01-01 00:00+00' AND '9000-01-01 00:00+00'
    OR published_at NOT BETWEEN '1970-01-01 00:00+00' AND '9000-01-01 00:00+00'
    OR finished_at NOT BETWEEN '1970-01-01 00:00+00' AND '9000-01-01 00:00+00';

//! Decides what is done with a session when its request ends or saves it: the whole policy, as a pure function.

/// Where the session of a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The request came without one.
    None,
    /// It came with an id that nobody has looked up yet.
    Unloaded,
    /// It came with an id under which nothing is stored, which is never taken over; or with a cookie that is none of ours.
    Unknown,
    /// It came with the id of a session that another request has ended while this one was under
    /// way, or renewed a moment before: the client has been given another id since.
    Ended,
    /// It came with the id of a record that cannot be read. An end and a new beginning need nothing of it.
    Unreadable,
    /// It came with the id of a live session.
    Resumed,
}

/// What the request did to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Same,
    Changed,
}

/// What the request asked for the session itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IdChange {
    #[default]
    Keep,
    /// A new id, the data kept.
    Renew,
    /// A new id, the data dropped: what changed since then is all there is.
    Regenerate,
    /// An end. What changed since then is a new session.
    Destroy,
}

/// What the head of the response can still carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseHead {
    /// A cookie.
    Open,
    /// None: it must not travel over plain http.
    Insecure,
    /// None: it has been sent.
    Sent,
}

/// When the cookie of a session that goes on is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "express"), allow(dead_code, reason = "some are for sessions of Express"))]
pub(crate) enum Rolling {
    /// Never: it lives as long as the session can, or was sent not long ago.
    #[default]
    Never,
    /// Now, and the record is to say so.
    Due,
    /// When the session is saved.
    WhenSaved,
    /// With every response.
    Always,
}

/// What else decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// The deadline has to be moved by a call of its own, should nothing else move it.
    pub(crate) touch_due: bool,
    pub(crate) rolling: Rolling,
    /// The cookie of a session that ended is taken back.
    pub(crate) takes_back: bool,
    /// So is one that came with the request and is of no session.
    pub(crate) takes_dead: bool,
    pub(crate) head: ResponseHead,
}

/// What is done in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Look the id up, then plan again.
    Load,
    /// Move the deadline.
    Touch,
    /// Save a new record under a new id.
    Create,
    /// Save the record, on condition of the revision read.
    Update,
    /// Note in the record that the cookie is sent again, if that goes at once.
    Resend,
    /// Save the data under a new id, then end the old record on condition of the revision read.
    Renew,
    /// Save a new record under a new id, then end the old one.
    Regenerate,
    /// Save a new record under a new id, then destroy the old one and what it was renewed as.
    Replace,
    /// Destroy the record and what it was renewed as.
    Destroy,
    /// Save nothing, since no cookie could announce or must carry it.
    Withhold,
    /// Save nothing, since the session was ended by another request.
    Drop,
}

/// What the response's cookie does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Keep,
    Send,
    Remove,
}

/// Maps the session's state, and what was asked of it, to actions; the engine carries them out.
pub(crate) fn plan(origin: Origin, data: Data, id: IdChange, context: Context) -> (Action, CookieAction) {
    let open = context.head == ResponseHead::Open;
    let remove = if open && context.takes_back { CookieAction::Remove } else { CookieAction::Keep };
    let announce = |action| if open { (action, CookieAction::Send) } else { (Action::Withhold, CookieAction::Keep) };

    match (origin, id, data) {
        (Origin::Unloaded, IdChange::Keep, Data::Same) if !context.touch_due => (Action::Nothing, CookieAction::Keep),
        (Origin::Unloaded, ..) => (Action::Load, CookieAction::Keep),

        // There is nothing to end; at most a dead cookie to take back.
        (Origin::Unknown, IdChange::Destroy, Data::Same) => (Action::Nothing, remove),
        (Origin::Unknown, _, Data::Same) if context.takes_dead => (Action::Nothing, remove),
        (Origin::None | Origin::Unknown, _, Data::Same) => (Action::Nothing, CookieAction::Keep),
        (Origin::None | Origin::Unknown, _, Data::Changed) => announce(Action::Create),

        // Nothing was read that edits could be made to, or that a new id could go on with.
        (Origin::Unreadable, IdChange::Keep | IdChange::Renew, Data::Same) => (Action::Nothing, CookieAction::Keep),
        (Origin::Unreadable, IdChange::Keep | IdChange::Renew, Data::Changed) => (Action::Drop, CookieAction::Keep),

        // A late edit must not start a session whose cookie would replace the renewed one; a late
        // logout is meant for the renewed session too; a login that is tried again is a new one.
        (Origin::Ended, IdChange::Keep, Data::Changed) => (Action::Drop, CookieAction::Keep),
        (Origin::Ended, IdChange::Keep | IdChange::Renew | IdChange::Regenerate, Data::Same) => {
            (Action::Nothing, CookieAction::Keep)
        }
        (Origin::Ended, IdChange::Renew | IdChange::Regenerate, Data::Changed) => announce(Action::Create),

        (Origin::Resumed, IdChange::Keep, data) => {
            let is_due = context.rolling == Rolling::Due && open;
            let action = match (data, context.head) {
                (Data::Same, _) if is_due => Action::Resend,
                (Data::Changed, ResponseHead::Insecure) => Action::Withhold,
                (Data::Changed, ResponseHead::Open | ResponseHead::Sent) => Action::Update,
                (Data::Same, _) if context.touch_due => Action::Touch,
                (Data::Same, _) => Action::Nothing,
            };
            let again = match context.rolling {
                Rolling::Never => false,
                Rolling::WhenSaved => data == Data::Changed,
                Rolling::Due | Rolling::Always => true,
            };
            (action, if again && open { CookieAction::Send } else { CookieAction::Keep })
        }
        (Origin::Resumed, IdChange::Renew, _) => announce(Action::Renew),
        (Origin::Resumed | Origin::Unreadable, IdChange::Regenerate, Data::Changed) if open => {
            announce(Action::Regenerate)
        }

        // An end is honoured even where nothing may be saved.
        (Origin::Resumed | Origin::Ended | Origin::Unreadable, IdChange::Destroy, Data::Changed) if open => {
            announce(Action::Replace)
        }
        (Origin::Resumed | Origin::Unreadable, IdChange::Regenerate, _)
        | (Origin::Resumed | Origin::Ended | Origin::Unreadable, IdChange::Destroy, _) => (Action::Destroy, remove),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINS: [Origin; 6] =
        [Origin::None, Origin::Unloaded, Origin::Unknown, Origin::Ended, Origin::Unreadable, Origin::Resumed];
    const DATA: [Data; 2] = [Data::Same, Data::Changed];
    const IDS: [IdChange; 4] = [IdChange::Keep, IdChange::Renew, IdChange::Regenerate, IdChange::Destroy];
    const HEADS: [ResponseHead; 3] = [ResponseHead::Open, ResponseHead::Insecure, ResponseHead::Sent];

    const ROLLINGS: [(Rolling, &str); 4] =
        [(Rolling::Never, ""), (Rolling::Due, "rolling"), (Rolling::WhenSaved, "saved"), (Rolling::Always, "rolling")];

    /// Every combination of origin, data, id and head; `*` stands for all, `|` for or. Behind the
    /// colon what is done, and what becomes of the cookie; then what is done if a touch is due, and
    /// what becomes of the cookie if it is sent again with what is saved, or always or now, or if a dead one is taken back,
    /// where that differs. A cookie that is removed stays where none is taken back.
    const TABLE: &str = "
        None     Same    *                     *               : Nothing    Keep
        None     Changed *                     Open            : Create     Send
        None     Changed *                     Insecure|Sent   : Withhold   Keep

        Unloaded Same    Keep                  *               : Nothing    Keep    touch Load
        Unloaded Same    Renew                 *               : Load       Keep
        Unloaded Same    Regenerate            *               : Load       Keep
        Unloaded Same    Destroy               *               : Load       Keep
        Unloaded Changed *                     *               : Load       Keep

        Unknown  Same    Keep                  Open            : Nothing    Keep    dead Remove
        Unknown  Same    Keep                  Insecure|Sent   : Nothing    Keep
        Unknown  Same    Renew|Regenerate      Open            : Nothing    Keep    dead Remove
        Unknown  Same    Renew|Regenerate      Insecure|Sent   : Nothing    Keep
        Unknown  Same    Destroy               Open            : Nothing    Remove
        Unknown  Same    Destroy               Insecure|Sent   : Nothing    Keep
        Unknown  Changed *                     Open            : Create     Send
        Unknown  Changed *                     Insecure|Sent   : Withhold   Keep

        Ended    Same    Keep                  *               : Nothing    Keep
        Ended    Same    Renew|Regenerate      *               : Nothing    Keep
        Ended    Same    Destroy               Open            : Destroy    Remove
        Ended    Same    Destroy               Insecure|Sent   : Destroy    Keep
        Ended    Changed Keep                  *               : Drop       Keep
        Ended    Changed Renew|Regenerate      Open            : Create     Send
        Ended    Changed Renew|Regenerate      Insecure|Sent   : Withhold   Keep
        Ended    Changed Destroy               Open            : Replace    Send
        Ended    Changed Destroy               Insecure|Sent   : Destroy    Keep

        Unreadable Same  Keep|Renew            *               : Nothing    Keep
        Unreadable Same  Regenerate|Destroy    Open            : Destroy    Remove
        Unreadable Same  Regenerate|Destroy    Insecure|Sent   : Destroy    Keep
        Unreadable Changed Keep|Renew          *               : Drop       Keep
        Unreadable Changed Regenerate          Open            : Regenerate Send
        Unreadable Changed Destroy             Open            : Replace    Send
        Unreadable Changed Regenerate|Destroy  Insecure|Sent   : Destroy    Keep

        Resumed  Same    Keep                  Open            : Nothing    Keep    touch Touch rolling Send
        Resumed  Same    Keep                  Insecure|Sent   : Nothing    Keep    touch Touch
        Resumed  Same    Renew                 Open            : Renew      Send
        Resumed  Same    Renew                 Insecure|Sent   : Withhold   Keep
        Resumed  Same    Regenerate            Open            : Destroy    Remove
        Resumed  Same    Regenerate            Insecure|Sent   : Destroy    Keep
        Resumed  Same    Destroy               Open            : Destroy    Remove
        Resumed  Same    Destroy               Insecure|Sent   : Destroy    Keep
        Resumed  Changed Keep                  Open            : Update     Keep    saved Send rolling Send
        Resumed  Changed Keep                  Insecure        : Withhold   Keep
        Resumed  Changed Keep                  Sent            : Update     Keep
        Resumed  Changed Renew                 Open            : Renew      Send
        Resumed  Changed Renew                 Insecure|Sent   : Withhold   Keep
        Resumed  Changed Regenerate            Open            : Regenerate Send
        Resumed  Changed Regenerate            Insecure|Sent   : Destroy    Keep
        Resumed  Changed Destroy               Open            : Replace    Send
        Resumed  Changed Destroy               Insecure|Sent   : Destroy    Keep
    ";

    #[test]
    fn every_combination() {
        let rows: Vec<Vec<&str>> = TABLE
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|row: &Vec<_>| !row.is_empty())
            .collect();
        let mut used = vec![false; rows.len()];
        let mut combinations = 0;
        for origin in ORIGINS {
            for data in DATA {
                for id in IDS {
                    for head in HEADS {
                        let names =
                            [format!("{origin:?}"), format!("{data:?}"), format!("{id:?}"), format!("{head:?}")];
                        let fits = |row: &Vec<&str>| {
                            row.iter()
                                .zip(&names)
                                .all(|(cell, name)| *cell == "*" || cell.split('|').any(|cell| cell == name))
                        };
                        let fitting: Vec<_> = (0..rows.len()).filter(|index| fits(&rows[*index])).collect();
                        let [index] = fitting[..] else { panic!("{names:?} stands in {} rows", fitting.len()) };
                        used[index] = true;
                        let row = &rows[index];
                        let or = |word: &str, usual: &str| {
                            let at = row.iter().position(|cell| *cell == word);
                            at.map_or(usual, |at| row[at + 1]).to_owned()
                        };
                        for (rolling, word) in ROLLINGS {
                            for flags in 0..8_u8 {
                                let [touch_due, takes_back, takes_dead] = [1, 2, 4].map(|flag| flags & flag > 0);
                                let action = if touch_due { or("touch", row[5]) } else { row[5].to_owned() };
                                // To send it when it is due is also to note that, whatever else is due.
                                let is_sent = rolling == Rolling::Due && or(word, row[6]) == "Send";
                                let action = if is_sent && row[5] == "Nothing" { "Resend".to_owned() } else { action };
                                let cookie = or(word, row[6]);
                                let cookie = if takes_dead { or("dead", &cookie) } else { cookie };
                                let cookie = if cookie == "Remove" && !takes_back { "Keep".to_owned() } else { cookie };
                                let context = Context { touch_due, rolling, takes_back, takes_dead, head };
                                let (did, sent) = plan(origin, data, id, context);
                                assert_eq!(
                                    (format!("{did:?}"), format!("{sent:?}")),
                                    (action, cookie),
                                    "{names:?} {context:?}"
                                );
                                combinations += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(combinations, 4608);
        assert!(used.iter().all(|used| *used), "a row of the table fits nothing");
    }

    /// What must hold whatever the table says.
    #[test]
    fn no_cookie_that_the_head_cannot_carry_and_no_save_that_it_could_not_announce() {
        for origin in ORIGINS {
            for data in DATA {
                for id in IDS {
                    for head in [ResponseHead::Insecure, ResponseHead::Sent] {
                        for rolling in [Rolling::Due, Rolling::Always] {
                            let context =
                                Context { touch_due: true, rolling, takes_back: true, takes_dead: true, head };
                            let (action, cookie) = plan(origin, data, id, context);
                            assert_eq!(cookie, CookieAction::Keep);
                            assert!(!matches!(
                                action,
                                Action::Create | Action::Renew | Action::Regenerate | Action::Replace
                            ));
                            assert!(action != Action::Update || head == ResponseHead::Sent);
                            assert!(action != Action::Resend);
                        }
                    }
                }
            }
        }
    }
}
